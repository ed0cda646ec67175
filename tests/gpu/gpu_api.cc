// The GPU core as C functions of plain numbers and addresses, for ctypes. Enumerations are given
// as their numbers; what can fail returns a cudaError_t.
#include "pool_arguments.h"
#include "pool_gpu.h"

extern "C" {

// {multiprocessors, compute capability}
int qrnn_gpu_device(int* out) {
    qrnn::GpuDevice device;
    const cudaError_t error = qrnn::current_gpu(&device);
    out[0] = device.multiprocessors;
    out[1] = device.compute_capability;
    return error;
}

// What the core would choose: {regime, channels per thread, warps}, and {bytes, bound} of
// workspace.
void qrnn_gpu_plan(int pooling, int storage, int64_t steps, int64_t batch, int64_t hidden,
                   const void* gates, const void* skip, void* h, int multiprocessors,
                   int compute_capability, uint64_t workspace_bytes, int* plan_out,
                   uint64_t* bytes_out) {
    const qrnn::PoolArguments a =
        pool_arguments(pooling, 0, storage, 0, 1.0f, steps, batch, hidden, gates, nullptr, nullptr,
                       h, nullptr, nullptr, nullptr, skip);
    const qrnn::GpuDevice device = {multiprocessors, compute_capability};
    const qrnn::GpuPlan plan = qrnn::plan_gpu(a, device, workspace_bytes);
    plan_out[0] = static_cast<int>(plan.regime);
    plan_out[1] = plan.channels_per_thread;
    plan_out[2] = plan.warps;
    bytes_out[0] = qrnn::gpu_workspace_bytes(a, device);
    bytes_out[1] = qrnn::gpu_workspace_bound(a, device);
}

// Bytes of workspace that kChain takes with that many warps.
uint64_t qrnn_gpu_chain_bytes(int64_t steps, int64_t batch, int64_t hidden, int channels, int warps,
                              int span) {
    return qrnn::chain_layout(steps, batch, hidden, channels, warps, span).bytes;
}

// By the core's own choice where regime is negative. The last three arrays are an SRU's.
int qrnn_gpu_pool(int pooling, int activation, int storage, int reverse, float zoneout_scale,
                  int64_t steps, int64_t batch, int64_t hidden, const void* gates, const void* c0,
                  const void* lengths, void* h, void* c_T, const void* weight_c, const void* bias,
                  const void* skip, int regime, int channels_per_thread, int warps, void* workspace,
                  uint64_t workspace_bytes, void* stream) {
    const qrnn::PoolArguments a =
        pool_arguments(pooling, activation, storage, reverse, zoneout_scale, steps, batch, hidden,
                       gates, c0, lengths, h, c_T, weight_c, bias, skip);
    const cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (regime >= 0) {
        const qrnn::GpuPlan plan = {static_cast<qrnn::GpuRegime>(regime), channels_per_thread,
                                    warps};
        return qrnn::pool_on_gpu(a, plan, workspace, workspace_bytes, on);
    }
    qrnn::GpuDevice device;
    const cudaError_t error = qrnn::current_gpu(&device);
    if (error != cudaSuccess) return error;
    return qrnn::pool_on_gpu(a, device, workspace, workspace_bytes, on);
}

}  // extern "C"
