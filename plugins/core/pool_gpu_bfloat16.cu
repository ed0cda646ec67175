#include "gpu_launch.cuh"

namespace qrnn {

cudaError_t launch_bfloat16(const PoolArguments& arguments, const GpuPlan& plan, char* workspace,
                            cudaStream_t stream) {
    return launch_storage<BFloat16>(arguments, plan, workspace, stream);
}

}  // namespace qrnn
