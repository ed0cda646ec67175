#include "fake_gpu.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace fake_gpu {
namespace {

void pool_on_host(qrnn::PoolArguments a) {
    std::vector<int64_t> lengths(static_cast<size_t>(a.batch));
    if (a.batch > 0) std::memcpy(lengths.data(), a.lengths, lengths.size() * sizeof(int64_t));
    for (int64_t& length : lengths) length = std::clamp<int64_t>(length, 0, a.steps);
    a.lengths = lengths.data();
    const qrnn::PoolPlan plan = qrnn::plan_pool(a, 1, qrnn::Isa::kPortable);
    for (int64_t part = 0; part < plan.parts(); ++part) plan.run(a, part);
}

}  // namespace

State& state() {
    static State held;
    return held;
}

}  // namespace fake_gpu

namespace qrnn {

cudaError_t current_gpu(GpuDevice* device) {
    *device = fake_gpu::state().device;
    return fake_gpu::state().device_result;
}

cudaError_t pool_on_gpu(const PoolArguments& arguments, const GpuDevice& device, void* workspace,
                        size_t workspace_bytes, cudaStream_t stream) {
    fake_gpu::State& state = fake_gpu::state();
    state.call = {arguments, device, workspace, workspace_bytes, stream};
    if (state.computes) fake_gpu::pool_on_host(arguments);
    return state.pool_result;
}

}  // namespace qrnn

extern "C" {

cudaError_t CUDARTAPI cudaGetDevice(int* device) {
    *device = fake_gpu::state().current_device;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaSetDevice(int device) {
    fake_gpu::state().current_device = device;
    return cudaSuccess;
}

const char* CUDARTAPI cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorNoKernelImageForDevice ? "cudaErrorNoKernelImageForDevice"
           : error == cudaErrorLaunchFailure        ? "cudaErrorLaunchFailure"
                                                    : "another";
}

const char* CUDARTAPI cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure ? "unspecified launch failure" : "some reason";
}

}  // extern "C"
