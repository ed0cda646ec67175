// Messages through TensorRT's logger.
#ifndef QRNN_DEPLOY_TENSORRT_LOG_H_
#define QRNN_DEPLOY_TENSORRT_LOG_H_

#include <NvInferRuntime.h>

#include <string>

namespace qrnn_deploy::tensorrt {

using Severity = nvinfer1::ILogger::Severity;

// TensorRT hands the finder over when it loads the library. It is asked anew for every message,
// since a logger may not outlive the builder or runtime that it belongs to.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Where there is no logger, warnings and errors go to the standard error stream and the rest is
// dropped. Never throws.
void log(Severity severity, const std::string& message) noexcept;

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_LOG_H_
