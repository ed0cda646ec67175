#include "gpu_launch.cuh"

namespace qrnn {

cudaError_t launch_float32(const PoolArguments& arguments, const GpuPlan& plan, char* workspace,
                           cudaStream_t stream) {
    return launch_storage<float>(arguments, plan, workspace, stream);
}

}  // namespace qrnn
