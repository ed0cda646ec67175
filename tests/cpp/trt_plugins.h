// Plugins of the library's creators, for the tests of the plugin.
#ifndef QRNN_DEPLOY_TESTS_TRT_PLUGINS_H_
#define QRNN_DEPLOY_TESTS_TRT_PLUGINS_H_

#include <cstring>
#include <string>
#include <vector>

#include "log.h"
#include "pool_creator.h"
#include "trt_fakes.h"

namespace trt_plugins {

using namespace trt_fakes;
using nvinfer1::IPluginV3;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

struct Op {
    const char* name;
    const char* short_name;
    qrnn::Pooling pooling;
    int64_t gates;
    int32_t inputs = 3;
    const char* activation = "tanh";  // the default
};
inline constexpr Op kOps[] = {
    {"QRNNPoolF", "f", qrnn::Pooling::kF, 2},
    {"QRNNPoolFO", "fo", qrnn::Pooling::kFO, 3},
    {"QRNNPoolIFO", "ifo", qrnn::Pooling::kIFO, 4},
    {"QRNNPoolIF", "if", qrnn::Pooling::kIF, 3},
    {"SRUPool", "sru", qrnn::Pooling::kSRU, 4, 5, "identity"},
    {"SRUPoolInput", "sru_input", qrnn::Pooling::kSRUInput, 3, 6, "identity"},
    {"SRUPoolNoSkip", "sru_noskip", qrnn::Pooling::kSRUNoSkip, 3, 5, "identity"}};

inline Logger logger;

inline nvinfer1::IPluginCreatorV3One* creator_of(const char* name) {
    const auto& all = qrnn_deploy::tensorrt::creators();
    return find_creator(all.data(), static_cast<int32_t>(all.size()), name);
}

inline IPluginV3* create(const char* op, const std::vector<PluginField>& fields,
                         TensorRTPhase phase = TensorRTPhase::kBUILD) {
    const PluginFieldCollection collection = {static_cast<int32_t>(fields.size()), fields.data()};
    return creator_of(op)->createPlugin("the_layer", &collection, phase);
}

inline PluginField text(const char* name, const char* value, int32_t length = -1) {
    return {name, value, PluginFieldType::kCHAR,
            length < 0 ? static_cast<int32_t>(std::strlen(value)) : length};
}

// Runs the tests with the logger; what main returns.
template <class... Test>
int run_tests(Test... tests) {
    Finder finder(&logger);
    qrnn_deploy::tensorrt::set_logger_finder(&finder);
    (tests(), ...);
    qrnn_deploy::tensorrt::set_logger_finder(nullptr);
    std::printf("TensorRT %d.%d headers: %d failures\n", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR,
                failures);
    return failures == 0 ? 0 : 1;
}

}  // namespace trt_plugins

#endif  // QRNN_DEPLOY_TESTS_TRT_PLUGINS_H_
