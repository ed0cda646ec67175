// The functions that TensorRT calls when it loads the library; exports.map hides every other
// symbol. Without them TensorRT finds no plugin, and its ONNX parser takes the function body.
#include <NvInferRuntime.h>

#include "log.h"
#include "pool_creator.h"

#define QRNN_DEPLOY_EXPORT __attribute__((visibility("default")))

extern "C" {

QRNN_DEPLOY_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) noexcept {
    count = qrnn_deploy::tensorrt::kCreators;
    return qrnn_deploy::tensorrt::creators().data();
}

QRNN_DEPLOY_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) noexcept {
    qrnn_deploy::tensorrt::set_logger_finder(finder);
}

}  // extern "C"
