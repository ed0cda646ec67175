// fo-pooling with other depths than the core's, for the sweep of bench/gpu_bench.py, and an empty
// kernel. Not part of any product library.
#include "gpu_launch.cuh"

namespace {

__global__ void empty_kernel() {}

template <class T, int kCount, int kDepth>
cudaError_t launch(const qrnn::PoolArguments& a, const qrnn::GpuPlan& plan, char* workspace,
                   cudaStream_t stream) {
    return qrnn::launch_plan<T, qrnn::Pooling::kFO, true, kCount, kDepth, kDepth>(
        qrnn::make_call<T>(a), a, plan, workspace, stream);
}

template <class T, int kCount>
cudaError_t launch(int depth, const qrnn::PoolArguments& a, const qrnn::GpuPlan& plan,
                   char* workspace, cudaStream_t stream) {
    switch (depth) {
        case 4: return launch<T, kCount, 4>(a, plan, workspace, stream);
        case 8: return launch<T, kCount, 8>(a, plan, workspace, stream);
        case 16: return launch<T, kCount, 16>(a, plan, workspace, stream);
        default: return cudaErrorInvalidValue;
    }
}

}  // namespace

extern "C" int qrnn_gpu_empty(void* stream) {
    return cudaLaunchKernel(reinterpret_cast<const void*>(&empty_kernel), dim3(1), dim3(1), nullptr,
                            0, static_cast<cudaStream_t>(stream));
}

// depth: kWalk's steps ahead, kScan's and kChain's steps per thread. bfloat16 by pairs, or float32.
extern "C" int qrnn_gpu_sweep(int bfloat16, int depth, int regime, int warps, int64_t steps,
                              int64_t batch, int64_t hidden, const void* gates, const void* c0,
                              const void* lengths, void* h, void* c_T, void* workspace,
                              uint64_t workspace_bytes, void* stream) {
    qrnn::PoolArguments a;
    a.storage = bfloat16 != 0 ? qrnn::Storage::kBFloat16 : qrnn::Storage::kFloat32;
    a.steps = steps;
    a.batch = batch;
    a.hidden = hidden;
    a.gates = gates;
    a.c0 = c0;
    a.lengths = lengths;
    a.h = h;
    a.c_T = c_T;
    const qrnn::GpuPlan plan = {static_cast<qrnn::GpuRegime>(regime), bfloat16 != 0 ? 2 : 1, warps};
    if (!qrnn::plan_fits(plan, a)) return cudaErrorInvalidValue;
    if (plan.regime == qrnn::GpuRegime::kChain &&
        workspace_bytes <
            qrnn::chain_layout(steps, batch, hidden, plan.channels_per_thread, warps, depth)
                .bytes) {
        return cudaErrorInvalidValue;
    }
    char* const bytes = static_cast<char*>(workspace);
    const cudaStream_t on = static_cast<cudaStream_t>(stream);
    return bfloat16 != 0 ? launch<qrnn::BFloat16, 2>(depth, a, plan, bytes, on)
                         : launch<float, 1>(depth, a, plan, bytes, on);
}
