// The kernel of ONNX Runtime's CUDA provider; only in builds that found a CUDA compiler.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_CUDA_KERNEL_H_
#define QRNN_DEPLOY_ONNXRUNTIME_CUDA_KERNEL_H_

#include "pool_kernel.h"

namespace qrnn_deploy {

OrtStatus* make_cuda_kernel(const OrtKernelInfo* info, const PoolNode& node, PoolKernel** kernel);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_CUDA_KERNEL_H_
