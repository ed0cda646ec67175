// One launcher per storage type, each defined in its own translation unit. The arguments have been
// checked; the workspace is as large as the plan needs.
#ifndef QRNN_DEPLOY_CORE_GPU_LAUNCH_H_
#define QRNN_DEPLOY_CORE_GPU_LAUNCH_H_

#include <cuda_runtime_api.h>

#include "gpu_plan.h"

namespace qrnn {

cudaError_t launch_float32(const PoolArguments& arguments, const GpuPlan& plan, char* workspace,
                           cudaStream_t stream);
cudaError_t launch_float16(const PoolArguments& arguments, const GpuPlan& plan, char* workspace,
                           cudaStream_t stream);
cudaError_t launch_bfloat16(const PoolArguments& arguments, const GpuPlan& plan, char* workspace,
                            cudaStream_t stream);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_LAUNCH_H_
