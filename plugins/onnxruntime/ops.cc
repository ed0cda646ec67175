#include "ops.h"

#include <memory>
#include <vector>

#include "cpu_kernel.h"
#include "created.h"
#include "node_inputs.h"
#include "pool.h"
#include "pool_kernel.h"
#include "shape_inference.h"
#include "status.h"
#ifdef QRNN_DEPLOY_CUDA_VERSION
#include "cuda_kernel.h"
#endif

namespace qrnn_deploy {
namespace {

using qrnn::Pooling;
using qrnn::Storage;

struct Provider {
    const char* name;    // what ONNX Runtime calls it
    const char* device;  // what the record of created kernels calls it
    KernelFactory make_kernel;
};

constexpr Provider kProviders[] = {
    {"CPUExecutionProvider", "cpu", make_cpu_kernel},
#ifdef QRNN_DEPLOY_CUDA_VERSION
    {"CUDAExecutionProvider", "cuda", make_cuda_kernel},
#endif
};

struct Operator {
    const char* name;
    Pooling pooling;
};

constexpr Operator kOperators[] = {
    {"QRNNPoolF", Pooling::kF},
    {"QRNNPoolFO", Pooling::kFO},
    {"QRNNPoolIFO", Pooling::kIFO},
    {"QRNNPoolIF", Pooling::kIF},
    {"SRUPool", Pooling::kSRU},
    {"SRUPoolInput", Pooling::kSRUInput},
    {"SRUPoolNoSkip", Pooling::kSRUNoSkip},
};

constexpr Storage kStorages[] = {Storage::kFloat32, Storage::kFloat16, Storage::kBFloat16};

constexpr auto kStateType = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;

struct PoolOp : OrtCustomOp {
    PoolOp(const Provider& op_provider, const Operator& op_op, Storage op_storage);

    const Provider& provider;
    const Operator& op;
    Storage storage;
};

const PoolOp& self(const OrtCustomOp* op) { return *static_cast<const PoolOp*>(op); }

OrtStatus* create_kernel(const OrtCustomOp* custom, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
    return guarded(*api, [&]() -> OrtStatus* {
        const PoolOp& op = self(custom);
        PoolNode node = {*api, {}, {}, {}};
        node.arguments.pooling = op.op.pooling;
        node.arguments.storage = op.storage;
        QRNN_DEPLOY_RETURN_IF_ERROR(node.read(info, op.op.name));
        PoolKernel* created = nullptr;
        QRNN_DEPLOY_RETURN_IF_ERROR(op.provider.make_kernel(info, node, &created));
        std::unique_ptr<PoolKernel> owner(created);
        created_kernels().add(op.provider.device, node.name);
        *kernel = owner.release();
        return nullptr;
    });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    const PoolKernel& self_kernel = *static_cast<const PoolKernel*>(kernel);
    return guarded(self_kernel.api(), [&] { return self_kernel.compute(context); });
}

OrtStatus* infer_shapes(const OrtCustomOp* op, OrtShapeInferContext* context) {
    return guarded(inference_api(), [&] {
        const int gate_count = qrnn::gate_count(self(op).op.pooling);
        return infer_shapes_of_pool(inference_api(), gate_count, context);
    });
}

PoolOp::PoolOp(const Provider& op_provider, const Operator& op_op, Storage op_storage)
    : OrtCustomOp{}, provider(op_provider), op(op_op), storage(op_storage) {
    version = kApiVersion;
    GetName = [](const OrtCustomOp* custom) { return self(custom).op.name; };
    GetExecutionProviderType = [](const OrtCustomOp* custom) { return self(custom).provider.name; };
    GetInputTypeCount = [](const OrtCustomOp* custom) {
        return static_cast<size_t>(qrnn::input_count(self(custom).op.pooling));
    };
    GetInputType = [](const OrtCustomOp* custom, size_t index) {
        return input_type(static_cast<int>(index), self(custom).storage);
    };
    // h, c_T
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 2; };
    GetOutputType = [](const OrtCustomOp* custom, size_t index) {
        return index == 0 ? input_type(qrnn::kGates, self(custom).storage) : kStateType;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    // All on the provider's device, lengths too: a copy to the host would stop the stream.
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

// Every type of every operator on every provider: ONNX Runtime falls back to the function body of
// a model for an operator it does not know at all, not for a type that is missing.
std::vector<PoolOp> all_operators() {
    std::vector<PoolOp> ops;
    for (const Provider& provider : kProviders) {
        for (const Operator& op : kOperators) {
            for (Storage storage : kStorages) ops.emplace_back(provider, op, storage);
        }
    }
    return ops;
}

}  // namespace

OrtStatus* add_operators(const OrtApi& api, OrtCustomOpDomain* domain) {
    // Sessions keep pointers to them, so they are never freed.
    static const auto& ops = *new std::vector<PoolOp>(all_operators());
    for (const PoolOp& op : ops) {
        QRNN_DEPLOY_RETURN_IF_ERROR(api.CustomOpDomain_Add(domain, &op));
    }
    return nullptr;
}

}  // namespace qrnn_deploy
