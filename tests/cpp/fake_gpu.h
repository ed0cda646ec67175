// Stands in for the GPU core and for CUDA's runtime, so that the glue runs without either: calls
// are recorded, answers are the test's.
#ifndef QRNN_DEPLOY_TESTS_FAKE_GPU_H_
#define QRNN_DEPLOY_TESTS_FAKE_GPU_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <optional>

#include "pool_gpu.h"

namespace fake_gpu {

struct Call {
    qrnn::PoolArguments arguments;
    qrnn::GpuDevice device;
    void* workspace;
    size_t workspace_bytes;
    cudaStream_t stream;
};

struct State {
    qrnn::GpuDevice device = {132, 90};
    int current_device = 0;
    cudaError_t device_result = cudaSuccess;  // of current_gpu
    cudaError_t pool_result = cudaSuccess;    // of pool_on_gpu
    bool computes = false;     // the pool's pointers are host memory, and it pools as the CPU does
    std::optional<Call> call;  // the last one
};

State& state();

}  // namespace fake_gpu

#endif  // QRNN_DEPLOY_TESTS_FAKE_GPU_H_
