// One-line errors for ONNX Runtime.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_STATUS_H_
#define QRNN_DEPLOY_ONNXRUNTIME_STATUS_H_

#include <onnxruntime_c_api.h>

#include <exception>
#include <string>

namespace qrnn_deploy {

inline OrtStatus* invalid_argument(const OrtApi& api, const std::string& message) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, message.c_str());
}

// Returns from the calling function where a call of the C API failed.
#define QRNN_DEPLOY_RETURN_IF_ERROR(expression)                \
    do {                                                       \
        if (OrtStatus* status_ = (expression)) return status_; \
    } while (false)

// Runs `body` and turns an exception into a status: none may cross the C boundary.
template <class Body>
OrtStatus* guarded(const OrtApi& api, Body body) noexcept {
    try {
        return body();
    } catch (const std::exception& error) {
        return api.CreateStatus(ORT_RUNTIME_EXCEPTION, error.what());
    }
}

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_STATUS_H_
