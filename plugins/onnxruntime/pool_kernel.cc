#include "pool_kernel.h"

#include <array>
#include <cstdint>
#include <vector>

#include "attributes.h"
#include "node_inputs.h"
#include "status.h"

namespace qrnn_deploy {
namespace {

using qrnn::Element;
using qrnn::kNodeInputs;

const char* name_of(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: return "bfloat16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
        default: return "of another type";
    }
}

// The type, too: ONNX Runtime has promised it, but on it depends how many bytes may be read.
OrtStatus* read_input(const OrtApi& api, const OrtKernelContext* context, int index,
                      const PoolNode& node, const void*& input, std::array<int64_t, 3>& shape) {
    const char* const signature = kNodeInputs[index].signature;
    const size_t expected_rank = static_cast<size_t>(kNodeInputs[index].rank);
    const OrtValue* value = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(
        api.KernelContext_GetInput(context, static_cast<size_t>(index), &value));
    if (value == nullptr) {
        return invalid_argument(api, node.where + ": input " + signature + " is missing");
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OrtStatus* status = api.GetTensorElementType(info, &type);
    if (status == nullptr) status = api.GetDimensionsCount(info, &rank);
    if (status == nullptr && rank == expected_rank) {
        status = api.GetDimensions(info, shape.data(), rank);
    }
    api.ReleaseTensorTypeAndShapeInfo(info);
    QRNN_DEPLOY_RETURN_IF_ERROR(status);
    if (rank != expected_rank) {
        const std::string error = qrnn::check_rank(index, static_cast<int64_t>(rank));
        return invalid_argument(api, node.where + ": " + error);
    }
    const ONNXTensorElementDataType expected = input_type(index, node.arguments.storage);
    if (type != expected) {
        return invalid_argument(api, node.where + ": input " + signature + " is " + name_of(type) +
                                         ", expected " + name_of(expected));
    }
    // The C API of these versions has no const form.
    void* data = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    input = data;
    return nullptr;
}

template <size_t kRank>
OrtStatus* make_output(const OrtApi& api, OrtKernelContext* context, size_t index,
                       const std::array<int64_t, kRank>& shape, void*& data) {
    OrtValue* value = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(
        api.KernelContext_GetOutput(context, index, shape.data(), kRank, &value));
    return api.GetTensorMutableData(value, &data);
}

}  // namespace

ONNXTensorElementDataType input_type(int input, qrnn::Storage storage) {
    switch (kNodeInputs[input].element) {
        case Element::kFloat32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        case Element::kInt64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
        case Element::kStorage: break;
    }
    switch (storage) {
        case qrnn::Storage::kFloat16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
        case qrnn::Storage::kBFloat16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
        default: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
}

OrtStatus* PoolNode::read(const OrtKernelInfo* info, const char* op_type) {
    size_t size = 0;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelInfo_GetNodeName(info, nullptr, &size));
    std::vector<char> text(size + 1, '\0');
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelInfo_GetNodeName(info, text.data(), &size));
    name = text.data();
    where = std::string(op_type) + " '" + name + "'";
    return read_attributes(api, info, where, arguments);
}

OrtStatus* PoolKernel::read_inputs(const OrtKernelContext* context, qrnn::PoolArguments& a) const {
    std::array<const void*, qrnn::kMostInputs> inputs = {};
    qrnn::NodeSizes sizes = {};
    const int count = qrnn::input_count(node_.arguments.pooling);
    for (int i = 0; i < count; ++i) {
        QRNN_DEPLOY_RETURN_IF_ERROR(read_input(node_.api, context, i, node_, inputs[i], sizes[i]));
    }
    const std::string error = qrnn::check_sizes(node_.arguments.pooling, sizes);
    if (!error.empty()) return invalid_argument(node_.api, node_.where + ": " + error);
    a = node_.arguments;
    a.steps = sizes[qrnn::kGates][0];
    a.batch = sizes[qrnn::kGates][1];
    a.hidden = sizes[qrnn::kC0][1];
    qrnn::set_inputs(inputs.data(), a);
    return nullptr;
}

OrtStatus* PoolKernel::make_outputs(OrtKernelContext* context, qrnn::PoolArguments& a) const {
    QRNN_DEPLOY_RETURN_IF_ERROR(
        make_output<3>(node_.api, context, 0, {a.steps, a.batch, a.hidden}, a.h));
    return make_output<2>(node_.api, context, 1, {a.batch, a.hidden}, a.c_T);
}

}  // namespace qrnn_deploy
