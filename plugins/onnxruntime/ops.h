// The custom operators: one per pooling function and storage type.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_OPS_H_
#define QRNN_DEPLOY_ONNXRUNTIME_OPS_H_

#include <onnxruntime_c_api.h>

namespace qrnn_deploy {

inline constexpr char kDomain[] = "qrnn_deploy";
inline constexpr int kDomainVersion = 1;

// The version of the C API that is used, whatever the headers are: 1.18 has all of it, so the
// library runs on 1.18 and later.
inline constexpr uint32_t kApiVersion = 18;
static_assert(ORT_API_VERSION >= kApiVersion, "the ONNX Runtime headers must be 1.18 or later");

// Adds all operators to a new domain.
OrtStatus* add_operators(const OrtApi& api, OrtCustomOpDomain* domain);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_OPS_H_
