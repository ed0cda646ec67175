// One pooling node of a session: its attributes, and the call of the core.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_
#define QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_

#include <onnxruntime_c_api.h>

#include <string>
#include <utility>

#include "pool.h"

namespace qrnn_deploy {

class PoolKernel {
  public:
    // `arguments` holds the pooling and the storage type; the rest comes from the node.
    static OrtStatus* create(const OrtApi& api, const OrtKernelInfo* info, const char* op_type,
                             qrnn::PoolArguments arguments, PoolKernel** kernel);

    // Checks the inputs before it touches them, then runs. Called from many threads at once.
    OrtStatus* compute(OrtKernelContext* context) const;

    const OrtApi& api() const { return api_; }

  private:
    PoolKernel(const OrtApi& api, std::string where, const qrnn::PoolArguments& arguments)
        : api_(api), where_(std::move(where)), arguments_(arguments) {}

    OrtStatus* check_lengths(const qrnn::PoolArguments& arguments) const;

    const OrtApi& api_;
    const std::string where_;  // op type and node name, for messages
    const qrnn::PoolArguments arguments_;
};

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_POOL_KERNEL_H_
