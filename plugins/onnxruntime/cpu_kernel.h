// The kernel of ONNX Runtime's CPU provider.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_CPU_KERNEL_H_
#define QRNN_DEPLOY_ONNXRUNTIME_CPU_KERNEL_H_

#include "pool_kernel.h"

namespace qrnn_deploy {

OrtStatus* make_cpu_kernel(const OrtKernelInfo* info, const PoolNode& node, PoolKernel** kernel);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_CPU_KERNEL_H_
