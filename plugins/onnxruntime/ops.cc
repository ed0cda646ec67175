#include "ops.h"

#include "pool.h"
#include "pool_kernel.h"
#include "shape_inference.h"
#include "status.h"

namespace qrnn_deploy {
namespace {

using qrnn::Pooling;
using qrnn::Storage;

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kHalf = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
constexpr auto kBrain = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

struct PoolOp : OrtCustomOp {
    PoolOp(const char* op_type, Pooling op_pooling, ONNXTensorElementDataType op_element,
           Storage op_storage);

    const char* name;
    Pooling pooling;
    ONNXTensorElementDataType element;
    Storage storage;
};

const PoolOp& self(const OrtCustomOp* op) { return *static_cast<const PoolOp*>(op); }

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
    return guarded(*api, [&] {
        qrnn::PoolArguments arguments;
        arguments.pooling = self(op).pooling;
        arguments.storage = self(op).storage;
        PoolKernel* created = nullptr;
        OrtStatus* status = PoolKernel::create(*api, info, self(op).name, arguments, &created);
        *kernel = created;
        return status;
    });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    const PoolKernel& self_kernel = *static_cast<const PoolKernel*>(kernel);
    return guarded(self_kernel.api(), [&] { return self_kernel.compute(context); });
}

OrtStatus* infer_shapes(const OrtCustomOp* op, OrtShapeInferContext* context) {
    return guarded(inference_api(), [&] {
        return infer_shapes_of_pool(inference_api(), qrnn::gate_count(self(op).pooling), context);
    });
}

PoolOp::PoolOp(const char* op_type, Pooling op_pooling, ONNXTensorElementDataType op_element,
               Storage op_storage)
    : OrtCustomOp{}, name(op_type), pooling(op_pooling), element(op_element), storage(op_storage) {
    version = kApiVersion;
    GetName = [](const OrtCustomOp* op) { return self(op).name; };
    GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    // gates, c0, lengths -> h, c_T
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
    GetInputType = [](const OrtCustomOp* op, size_t index) {
        return index == 0 ? self(op).element : index == 1 ? kFloat : kInt64;
    };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 2; };
    GetOutputType = [](const OrtCustomOp* op, size_t index) {
        return index == 0 ? self(op).element : kFloat;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetStartVersion = [](const OrtCustomOp*) { return kDomainVersion; };
    GetEndVersion = [](const OrtCustomOp*) { return kDomainVersion; };
    CreateKernelV2 = create_kernel;
    KernelComputeV2 = compute;
    KernelDestroy = [](void* kernel) { delete static_cast<PoolKernel*>(kernel); };
    InferOutputShapeFn = infer_shapes;
}

// Every type of every operator: ONNX Runtime falls back to the function body of a model for an
// operator it does not know at all, not for a type that is missing.
const PoolOp kOperators[] = {
    {"QRNNPoolF", Pooling::kF, kFloat, Storage::kFloat32},
    {"QRNNPoolF", Pooling::kF, kHalf, Storage::kFloat16},
    {"QRNNPoolF", Pooling::kF, kBrain, Storage::kBFloat16},
    {"QRNNPoolFO", Pooling::kFO, kFloat, Storage::kFloat32},
    {"QRNNPoolFO", Pooling::kFO, kHalf, Storage::kFloat16},
    {"QRNNPoolFO", Pooling::kFO, kBrain, Storage::kBFloat16},
    {"QRNNPoolIFO", Pooling::kIFO, kFloat, Storage::kFloat32},
    {"QRNNPoolIFO", Pooling::kIFO, kHalf, Storage::kFloat16},
    {"QRNNPoolIFO", Pooling::kIFO, kBrain, Storage::kBFloat16},
    {"QRNNPoolIF", Pooling::kIF, kFloat, Storage::kFloat32},
    {"QRNNPoolIF", Pooling::kIF, kHalf, Storage::kFloat16},
    {"QRNNPoolIF", Pooling::kIF, kBrain, Storage::kBFloat16},
};

}  // namespace

OrtStatus* add_operators(const OrtApi& api, OrtCustomOpDomain* domain) {
    for (const PoolOp& op : kOperators) {
        QRNN_DEPLOY_RETURN_IF_ERROR(api.CustomOpDomain_Add(domain, &op));
    }
    return nullptr;
}

}  // namespace qrnn_deploy
