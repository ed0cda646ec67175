#include "pool_gpu.h"

#include <atomic>

#include "gpu_launch.h"

namespace qrnn {
namespace {

constexpr int64_t kMostSteps = INT32_MAX - 1024;  // step indices are 32-bit

bool aligned(const void* p, size_t alignment) {
    return p != nullptr && reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

bool valid(const PoolArguments& a) {
    if (a.steps < 0 || a.batch < 0 || a.hidden < 0 || a.steps > kMostSteps) return false;
    if (a.batch == 0 || a.hidden == 0) return true;
    const size_t item = a.storage == Storage::kFloat32 ? 4 : 2;
    if (a.steps > 0 && !(aligned(a.gates, item) && aligned(a.h, item))) return false;
    if (a.steps > 0 && reads_skip(a.pooling) && !aligned(a.skip, item)) return false;
    if (is_sru(a.pooling) && !(aligned(a.weight_c, 4) && aligned(a.bias, 4))) return false;
    return aligned(a.c0, 4) && aligned(a.c_T, 4) && aligned(a.lengths, 8);
}

bool fits(const PoolArguments& a, const GpuPlan& plan, const void* workspace,
          size_t workspace_bytes) {
    if (!plan_fits(plan, a)) return false;
    if (plan.regime != GpuRegime::kChain) return true;
    const ChainLayout layout =
        chain_layout(a.steps, a.batch, a.hidden, plan.channels_per_thread, plan.warps);
    return aligned(workspace, 16) && layout.bytes <= workspace_bytes;
}

}  // namespace

cudaError_t current_gpu(GpuDevice* device) {
    // multiprocessors * 1000 + compute capability; 0 until it is known.
    static std::atomic<int> known[64];
    int index = 0;
    cudaError_t error = cudaGetDevice(&index);
    if (error != cudaSuccess) return error;
    const bool cached = index >= 0 && index < 64;
    int packed = cached ? known[index].load(std::memory_order_relaxed) : 0;
    if (packed == 0) {
        int count = 0, major = 0, minor = 0;
        error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index);
        if (error != cudaSuccess) return error;
        error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
        if (error != cudaSuccess) return error;
        error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
        if (error != cudaSuccess) return error;
        packed = count * 1000 + major * 10 + minor;
        if (cached) known[index].store(packed, std::memory_order_relaxed);
    }
    *device = {packed / 1000, packed % 1000};
    return cudaSuccess;
}

cudaError_t pool_on_gpu(const PoolArguments& a, const GpuDevice& device, void* workspace,
                        size_t workspace_bytes, cudaStream_t stream) {
    const size_t usable = aligned(workspace, 16) ? workspace_bytes : 0;
    return pool_on_gpu(a, plan_gpu(a, device, usable), workspace, workspace_bytes, stream);
}

cudaError_t pool_on_gpu(const PoolArguments& a, const GpuPlan& plan, void* workspace,
                        size_t workspace_bytes, cudaStream_t stream) {
    if (!valid(a)) return cudaErrorInvalidValue;
    if (a.batch == 0 || a.hidden == 0) return cudaSuccess;
    if (!fits(a, plan, workspace, workspace_bytes)) return cudaErrorInvalidValue;
    char* const bytes = static_cast<char*>(workspace);
    switch (a.storage) {
        case Storage::kFloat32: return launch_float32(a, plan, bytes, stream);
        case Storage::kFloat16: return launch_float16(a, plan, bytes, stream);
        case Storage::kBFloat16: return launch_bfloat16(a, plan, bytes, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace qrnn
