// The pooling operator on the GPU: device pointers, sizes and a stream in; no framework, no
// allocation, no synchronisation. Legal while the stream is captured into a graph.
//
//   GpuDevice device;
//   cudaError_t error = current_gpu(&device);
//   size_t bytes = gpu_workspace_bytes(arguments, device);   // or gpu_workspace_bound
//   error = pool_on_gpu(arguments, device, workspace, bytes, stream);
//
// The arguments are those of the CPU (pool.h) with pointers to device memory, each aligned to its
// elements. lengths outside of 0..T are clamped: they cannot be checked without waiting for them.
#ifndef QRNN_DEPLOY_CORE_POOL_GPU_H_
#define QRNN_DEPLOY_CORE_POOL_GPU_H_

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "gpu_plan.h"

namespace qrnn {

// Of the calling thread's current CUDA device. Queries attributes once per device.
cudaError_t current_gpu(GpuDevice* device);

// Enqueues the pooling on `stream`. A workspace that is null or too small only costs speed. It
// needs no preparation and is free again when the stream has passed; calls that run at the same
// time need workspaces of their own. Returns what the launch returned, or cudaErrorInvalidValue
// for arguments that cannot be right (negative sizes, T >= 2^31 - 2^10, null or misaligned
// pointers).
cudaError_t pool_on_gpu(const PoolArguments& arguments, const GpuDevice& device, void* workspace,
                        size_t workspace_bytes, cudaStream_t stream);

// The same by a plan of the caller's, for tests and measurements. cudaErrorInvalidValue where the
// plan does not fit the arguments or the workspace.
cudaError_t pool_on_gpu(const PoolArguments& arguments, const GpuPlan& plan, void* workspace,
                        size_t workspace_bytes, cudaStream_t stream);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_POOL_GPU_H_
