// The kernels of one storage type, and the choice among them. One translation unit per type.
#ifndef QRNN_DEPLOY_CORE_GPU_LAUNCH_CUH_
#define QRNN_DEPLOY_CORE_GPU_LAUNCH_CUH_

#include <cuda_runtime.h>

#include "gpu_kernels.h"
#include "gpu_launch.h"

namespace qrnn {

// The thread context on the device (gpu_kernels.h).
struct DeviceThread {
    static constexpr int kWarp = kGpuWarp;

    __device__ int thread() const { return static_cast<int>(threadIdx.x); }
    __device__ int64_t block() const { return blockIdx.x; }
    __device__ void barrier() { __syncthreads(); }
    __device__ float* shared() {
        extern __shared__ float memory[];
        return memory;
    }
    __device__ uint32_t take_ticket(uint32_t* counter) { return atomicAdd(counter, 1u); }
    __device__ void publish(uint64_t* word, uint64_t value) {
        asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(word)),
                     "l"(value)
                     : "memory");
    }
    __device__ void publish_in_order(uint64_t* word, uint64_t value) {
        asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(word)),
                     "l"(value)
                     : "memory");
    }
    __device__ uint64_t peek(const uint64_t* word) {
        uint64_t value;
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
                     : "=l"(value)
                     : "l"(__cvta_generic_to_global(word))
                     : "memory");
        return value;
    }
    __device__ uint64_t peek_in_order(const uint64_t* word) {
        uint64_t value;
        asm volatile("ld.acquire.gpu.global.u64 %0, [%1];"
                     : "=l"(value)
                     : "l"(__cvta_generic_to_global(word))
                     : "memory");
        return value;
    }
    __device__ void pause() { __nanosleep(20); }
};

// The second figure is the number of blocks that are to fit a multiprocessor.
#define QRNN_BOUNDS(regime, blocks) __launch_bounds__(most_warps(regime) * kGpuWarp, blocks)

template <class T, Pooling P, bool kTanh, int kCount>
__global__ void QRNN_BOUNDS(GpuRegime::kStep, 1) qrnn_step(const GpuCall<T> call) {
    DeviceThread context;
    step_kernel<T, P, kTanh, kCount>(context, call);
}

// Fewer where each thread holds the values of more steps.
template <Pooling P>
constexpr int kWalkBlocks = is_sru(P) ? 2 : 3;

template <class T, Pooling P, bool kTanh, int kCount, int kAhead>
__global__ void QRNN_BOUNDS(GpuRegime::kWalk, kWalkBlocks<P>) qrnn_walk(const GpuCall<T> call) {
    DeviceThread context;
    walk_kernel<T, P, kTanh, kCount, kAhead>(context, call);
}

template <class T, Pooling P, bool kTanh, int kCount, int kSteps>
__global__ void QRNN_BOUNDS(GpuRegime::kScan, 1) qrnn_scan(const GpuCall<T> call) {
    DeviceThread context;
    scan_kernel<T, P, kTanh, kCount, kSteps>(context, call);
}

// A block of kChain waits several times; others fill the gaps. As many as fit without spills.
template <Pooling P, int kCount>
constexpr int kChainBlocks = kCount == 2         ? 2
                             : gate_count(P) < 4 ? 4
                                                 : 3;

template <class T, Pooling P, bool kTanh, int kCount, int kSteps>
__global__ void QRNN_BOUNDS(GpuRegime::kChain, (kChainBlocks<P, kCount>))
    qrnn_chain(const GpuCall<T> call) {
    DeviceThread context;
    chain_kernel<T, P, kTanh, kCount, kSteps>(context, call);
}

// Whether there are kScan and kChain (plan_fits).
template <class T, Pooling P, int kCount>
constexpr bool kSpansCompiled = !is_sru(P) && (sizeof(T) == 4 || kCount == 2);

template <class T, Pooling P, bool kTanh, int kCount, int kAhead = walk_ahead(P),
          int kSteps = kSpan>
cudaError_t launch_plan(GpuCall<T> call, const PoolArguments& a, const GpuPlan& plan,
                        char* workspace, cudaStream_t stream) {
    const int64_t lanes = a.batch * a.hidden;
    const int64_t block_threads = static_cast<int64_t>(plan.warps) * kGpuWarp;
    const auto divide_up = [](int64_t x, int64_t y) { return (x + y - 1) / y; };
    constexpr size_t kSegmentBytes = kSegmentFloats<DeviceThread, kCount> * sizeof(float);
    call.warps = plan.warps;

    const void* kernel = nullptr;
    int64_t blocks = 0;
    size_t shared = 0;
    if (plan.regime == GpuRegime::kStep || plan.regime == GpuRegime::kWalk) {
        kernel = plan.regime == GpuRegime::kStep
                     ? reinterpret_cast<const void*>(&qrnn_step<T, P, kTanh, kCount>)
                     : reinterpret_cast<const void*>(&qrnn_walk<T, P, kTanh, kCount, kAhead>);
        blocks = divide_up(lanes, block_threads * kCount);
    } else if constexpr (kSpansCompiled<T, P, kCount>) {
        const ChainLayout layout =
            chain_layout(a.steps, a.batch, a.hidden, kCount, plan.warps, kSteps);
        blocks = layout.groups;
        kernel = reinterpret_cast<const void*>(&qrnn_scan<T, P, kTanh, kCount, kSteps>);
        shared = 2 * static_cast<size_t>(plan.warps) * kSegmentBytes;
        if (plan.regime == GpuRegime::kChain) {
            blocks *= layout.chunks;
            kernel = reinterpret_cast<const void*>(&qrnn_chain<T, P, kTanh, kCount, kSteps>);
            shared += kSegmentBytes;
            call.chain.tickets = reinterpret_cast<uint32_t*>(workspace);
            call.chain.segments = reinterpret_cast<uint64_t*>(workspace + layout.segments);
            call.chain.states = reinterpret_cast<uint64_t*>(workspace + layout.states);
            call.groups = static_cast<int>(layout.groups);
            const cudaError_t zeroed = cudaMemsetAsync(workspace, 0, layout.bytes, stream);
            if (zeroed != cudaSuccess) return zeroed;
        }
    } else {
        return cudaErrorInvalidValue;
    }
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    void* parameters[] = {&call};
    return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)),
                            dim3(static_cast<unsigned>(block_threads)), parameters, shared, stream);
}

template <class T, Pooling P>
cudaError_t launch_pooling(const PoolArguments& a, const GpuPlan& plan, char* workspace,
                           cudaStream_t stream) {
    const GpuCall<T> call = make_call<T>(a);
    const bool tanh = a.activation == Activation::kTanh;
    if constexpr (sizeof(T) == 2) {
        if (plan.channels_per_thread == 2) {
            return tanh ? launch_plan<T, P, true, 2>(call, a, plan, workspace, stream)
                        : launch_plan<T, P, false, 2>(call, a, plan, workspace, stream);
        }
    }
    return tanh ? launch_plan<T, P, true, 1>(call, a, plan, workspace, stream)
                : launch_plan<T, P, false, 1>(call, a, plan, workspace, stream);
}

template <class T>
cudaError_t launch_storage(const PoolArguments& a, const GpuPlan& plan, char* workspace,
                           cudaStream_t stream) {
    switch (a.pooling) {
        case Pooling::kF: return launch_pooling<T, Pooling::kF>(a, plan, workspace, stream);
        case Pooling::kFO: return launch_pooling<T, Pooling::kFO>(a, plan, workspace, stream);
        case Pooling::kIFO: return launch_pooling<T, Pooling::kIFO>(a, plan, workspace, stream);
        case Pooling::kIF: return launch_pooling<T, Pooling::kIF>(a, plan, workspace, stream);
        case Pooling::kSRU: return launch_pooling<T, Pooling::kSRU>(a, plan, workspace, stream);
        case Pooling::kSRUInput:
            return launch_pooling<T, Pooling::kSRUInput>(a, plan, workspace, stream);
        case Pooling::kSRUNoSkip:
            return launch_pooling<T, Pooling::kSRUNoSkip>(a, plan, workspace, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_LAUNCH_CUH_
