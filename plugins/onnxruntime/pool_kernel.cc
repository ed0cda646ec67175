#include "pool_kernel.h"

#include <array>
#include <cstdint>
#include <sstream>
#include <vector>

#include "attributes.h"
#include "status.h"

namespace qrnn_deploy {
namespace {

template <size_t kRank>
struct Input {
    const void* data = nullptr;
    std::array<int64_t, kRank> shape = {};
};

template <size_t kRank>
OrtStatus* read_input(const OrtApi& api, const OrtKernelContext* context, size_t index,
                      const std::string& where, const char* signature, Input<kRank>& input) {
    const OrtValue* value = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelContext_GetInput(context, index, &value));
    if (value == nullptr) {
        return invalid_argument(api, where + ": input " + signature + " is missing");
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api.GetDimensionsCount(info, &rank);
    if (status == nullptr && rank == kRank) {
        status = api.GetDimensions(info, input.shape.data(), kRank);
    }
    api.ReleaseTensorTypeAndShapeInfo(info);
    QRNN_DEPLOY_RETURN_IF_ERROR(status);
    if (rank != kRank) {
        std::ostringstream text;
        text << where << ": input " << signature << " has " << rank << " dimensions, expected "
             << kRank;
        return invalid_argument(api, text.str());
    }
    // The C API of these versions has no const form.
    void* data = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    input.data = data;
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
    const OrtApi& api = node_.api;
    const std::string& where = node_.where;
    Input<3> gates;
    Input<2> c0;
    Input<1> lengths;
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api, context, 0, where, "gates [T, B, G*H]", gates));
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api, context, 1, where, "c0 [B, H]", c0));
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api, context, 2, where, "lengths [B]", lengths));

    a = node_.arguments;
    a.steps = gates.shape[0];
    a.batch = gates.shape[1];
    a.hidden = c0.shape[1];
    const int64_t gate_count = qrnn::gate_count(a.pooling);
    if (c0.shape[0] != a.batch || lengths.shape[0] != a.batch) {
        std::ostringstream text;
        text << where << ": gates has batch size " << a.batch << ", c0 " << c0.shape[0]
             << " and lengths " << lengths.shape[0] << ", expected one B for all";
        return invalid_argument(api, text.str());
    }
    if (gates.shape[2] % gate_count != 0 || gates.shape[2] / gate_count != a.hidden) {
        std::ostringstream text;
        text << where << ": gates has " << gates.shape[2] << " columns, expected " << gate_count
             << " times the hidden size " << a.hidden << " of c0";
        return invalid_argument(api, text.str());
    }
    a.gates = gates.data;
    a.c0 = c0.data;
    a.lengths = lengths.data;
    return nullptr;
}

OrtStatus* PoolKernel::make_outputs(OrtKernelContext* context, qrnn::PoolArguments& a) const {
    QRNN_DEPLOY_RETURN_IF_ERROR(
        make_output<3>(node_.api, context, 0, {a.steps, a.batch, a.hidden}, a.h));
    return make_output<2>(node_.api, context, 1, {a.batch, a.hidden}, a.c_T);
}

}  // namespace qrnn_deploy
