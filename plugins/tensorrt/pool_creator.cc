#include "pool_creator.h"

#include "pool_plugin.h"

namespace qrnn_deploy::tensorrt {

nvinfer1::IPluginV3* PoolCreator::createPlugin(const char* name,
                                               const nvinfer1::PluginFieldCollection* fields,
                                               nvinfer1::TensorRTPhase phase) noexcept {
    return PoolPlugin::create(op_type_, pooling_, name, fields, phase);
}

const std::array<nvinfer1::IPluginCreatorInterface*, kCreators>& creators() {
    // Never freed: TensorRT's registry may look at them while the process exits.
    static const auto& table = *new std::array<nvinfer1::IPluginCreatorInterface*, kCreators>{
        new PoolCreator("QRNNPoolF", qrnn::Pooling::kF),
        new PoolCreator("QRNNPoolFO", qrnn::Pooling::kFO),
        new PoolCreator("QRNNPoolIFO", qrnn::Pooling::kIFO),
        new PoolCreator("QRNNPoolIF", qrnn::Pooling::kIF),
        new PoolCreator("SRUPool", qrnn::Pooling::kSRU),
        new PoolCreator("SRUPoolInput", qrnn::Pooling::kSRUInput),
        new PoolCreator("SRUPoolNoSkip", qrnn::Pooling::kSRUNoSkip),
    };
    return table;
}

}  // namespace qrnn_deploy::tensorrt
