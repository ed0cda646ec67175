// One pooling node of a session: its attributes, the checks of its inputs, its outputs. What runs
// it is a kernel of a device: cpu_kernel.h, cuda_kernel.h.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_
#define QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_

#include <onnxruntime_c_api.h>

#include <string>

#include "pool.h"

namespace qrnn_deploy {

// The type of an input (node_inputs.h) where gates has that storage type.
ONNXTensorElementDataType input_type(int input, qrnn::Storage storage);

struct PoolNode {
    const OrtApi& api;
    std::string name;
    std::string where;  // op type and node name, for messages
    qrnn::PoolArguments arguments;

    // `arguments` comes with the pooling and the storage type; the other attributes are added.
    OrtStatus* read(const OrtKernelInfo* info, const char* op_type);
};

class PoolKernel {
  public:
    explicit PoolKernel(const PoolNode& node) : node_(node) {}
    virtual ~PoolKernel() = default;
    PoolKernel(const PoolKernel&) = delete;
    PoolKernel& operator=(const PoolKernel&) = delete;

    // Called from many threads at once.
    virtual OrtStatus* compute(OrtKernelContext* context) const = 0;

    const OrtApi& api() const { return node_.api; }

  protected:
    const PoolNode& node() const { return node_; }

    // Sets shape and inputs of `arguments`, checked as far as that needs no look at the data,
    // which lie on the kernel's device.
    OrtStatus* read_inputs(const OrtKernelContext* context, qrnn::PoolArguments& arguments) const;
    OrtStatus* make_outputs(OrtKernelContext* context, qrnn::PoolArguments& arguments) const;

  private:
    const PoolNode node_;
};

// Makes the kernel of a provider for a node.
using KernelFactory = OrtStatus* (*)(const OrtKernelInfo* info, const PoolNode& node,
                                     PoolKernel** kernel);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_
