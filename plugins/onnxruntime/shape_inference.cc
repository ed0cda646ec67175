#include "shape_inference.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "status.h"

namespace qrnn_deploy {
namespace {

std::atomic<const OrtApi*> registered_api{nullptr};

// A dimension is a number, a name, or neither.
struct Dimension {
    int64_t value = -1;
    std::string name;

    bool known() const { return value >= 0 || !name.empty(); }
};

// Without a name ONNX Runtime takes -1 for a number, so an unknown dimension gets a name that
// equals no other.
Dimension named(Dimension dimension) {
    static std::atomic<unsigned> count{0};
    if (!dimension.known()) dimension.name = "qrnn_deploy_unknown_" + std::to_string(count++);
    return dimension;
}

// The dimensions of an input; unknown ones where even its rank is unknown (or wrong, of which the
// kernel complains when it runs).
OrtStatus* read_shape(const OrtApi& api, const OrtShapeInferContext* context, size_t index,
                      size_t rank, std::vector<Dimension>& shape,
                      ONNXTensorElementDataType& element) {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // belongs to the context
    QRNN_DEPLOY_RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, index, &info));
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorElementType(info, &element));
    shape.assign(rank, Dimension{});
    size_t count = 0;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetDimensionsCount(info, &count));
    if (count != rank) return nullptr;
    std::vector<int64_t> values(rank, -1);
    std::vector<const char*> names(rank, nullptr);
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetDimensions(info, values.data(), rank));
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetSymbolicDimensions(info, names.data(), rank));
    for (size_t i = 0; i < rank; ++i) {
        shape[i].value = values[i] >= 0 ? values[i] : -1;
        if (values[i] < 0 && names[i] != nullptr) shape[i].name = names[i];
    }
    return nullptr;
}

OrtStatus* write_shape(const OrtApi& api, OrtShapeInferContext* context, size_t index,
                       ONNXTensorElementDataType element, const std::vector<Dimension>& shape) {
    std::vector<int64_t> values;
    std::vector<const char*> names;
    for (const Dimension& dimension : shape) {
        values.push_back(dimension.value);
        names.push_back(dimension.name.c_str());
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.CreateTensorTypeAndShapeInfo(&info));
    OrtStatus* status = api.SetTensorElementType(info, element);
    if (status == nullptr) status = api.SetDimensions(info, values.data(), values.size());
    if (status == nullptr) status = api.SetSymbolicDimensions(info, names.data(), names.size());
    if (status == nullptr) status = api.ShapeInferContext_SetOutputTypeShape(context, index, info);
    api.ReleaseTensorTypeAndShapeInfo(info);
    return status;
}

}  // namespace

void set_inference_api(const OrtApi& api) { registered_api = &api; }
const OrtApi& inference_api() { return *registered_api; }

OrtStatus* infer_shapes_of_pool(const OrtApi& api, int gate_count, OrtShapeInferContext* context) {
    std::vector<Dimension> gates;  // [T, B, G*H]
    std::vector<Dimension> c0;     // [B, H]
    ONNXTensorElementDataType storage, state;
    QRNN_DEPLOY_RETURN_IF_ERROR(read_shape(api, context, 0, 3, gates, storage));
    QRNN_DEPLOY_RETURN_IF_ERROR(read_shape(api, context, 1, 2, c0, state));
    const Dimension time = named(gates[0]);
    const Dimension batch = named(gates[1].value >= 0 || !c0[0].known() ? gates[1] : c0[0]);
    Dimension hidden = c0[1];
    if (hidden.value < 0 && gates[2].value >= 0) hidden = {gates[2].value / gate_count, ""};
    hidden = named(hidden);
    QRNN_DEPLOY_RETURN_IF_ERROR(write_shape(api, context, 0, storage, {time, batch, hidden}));
    return write_shape(api, context, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {batch, hidden});
}

}  // namespace qrnn_deploy
