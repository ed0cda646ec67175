// One creator for each pooling operator; the table of them is creators().
#ifndef QRNN_DEPLOY_TENSORRT_POOL_CREATOR_H_
#define QRNN_DEPLOY_TENSORRT_POOL_CREATOR_H_

#include <NvInferRuntime.h>

#include <array>

#include "fields.h"
#include "pool.h"

namespace qrnn_deploy::tensorrt {

class PoolCreator final : public nvinfer1::IPluginCreatorV3One {
  public:
    PoolCreator(const char* op_type, qrnn::Pooling pooling)
        : op_type_(op_type), pooling_(pooling) {}

    const char* getPluginName() const noexcept override { return op_type_; }
    const char* getPluginVersion() const noexcept override { return qrnn::kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
        return &field_names();
    }
    nvinfer1::IPluginV3* createPlugin(const char* name,
                                      const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;

  private:
    const char* op_type_;
    qrnn::Pooling pooling_;
};

inline constexpr int32_t kCreators = 7;

// They live as long as the library: TensorRT keeps pointers to them.
const std::array<nvinfer1::IPluginCreatorInterface*, kCreators>& creators();

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_POOL_CREATOR_H_
