// Attributes of a pooling node, validated.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_ATTRIBUTES_H_
#define QRNN_DEPLOY_ONNXRUNTIME_ATTRIBUTES_H_

#include <onnxruntime_c_api.h>

#include <string>

#include "pool.h"

namespace qrnn_deploy {

// Fills the attribute fields of `arguments`, for its pooling. `where` names the node in the error
// messages.
OrtStatus* read_attributes(const OrtApi& api, const OrtKernelInfo* info, const std::string& where,
                           qrnn::PoolArguments& arguments);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_ATTRIBUTES_H_
