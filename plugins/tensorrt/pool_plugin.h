// A pooling node as a TensorRT plugin (IPluginV3). docs/op.md specifies the operator.
//
//   inputs    0 gates [T, B, G*H] T       1 c0 [B, H] float32     2 lengths [B] int64
//             3 weight_c [2, H] float32   4 bias [2, H] float32   (an SRU)
//             5 skip [T, B, H] T                                  (SRUPoolInput)
//   outputs   0 h [T, B, H] T             1 c_T [B, H] float32
//
// T, the storage type, is one of float32, float16 and bfloat16 for gates, skip and h. Every tensor
// is linear. H is fixed when an engine is built; time and batch vary within its profiles.
#ifndef QRNN_DEPLOY_TENSORRT_POOL_PLUGIN_H_
#define QRNN_DEPLOY_TENSORRT_POOL_PLUGIN_H_

#include <NvInferRuntime.h>

#include <string>

#include "fields.h"
#include "pool_gpu.h"
#include "tensors.h"

namespace qrnn_deploy::tensorrt {

// One class for all poolings and for both phases. No method lets an exception out; those that can
// fail log one line and return what TensorRT expects of a failure.
class PoolPlugin final : public nvinfer1::IPluginV3,
                         public nvinfer1::IPluginV3OneCore,
                         public nvinfer1::IPluginV3OneBuild,
                         public nvinfer1::IPluginV3OneRuntime {
  public:
    // Returns null, with one line in the log, where a field is wrong. `op_type` must live as long
    // as the plugin.
    static PoolPlugin* create(const char* op_type, qrnn::Pooling pooling, const char* layer_name,
                              const nvinfer1::PluginFieldCollection* fields,
                              nvinfer1::TensorRTPhase phase) noexcept;

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    const char* getPluginName() const noexcept override { return op_type_; }
    const char* getPluginVersion() const noexcept override { return qrnn::kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

    int32_t getNbOutputs() const noexcept override { return kOutputs; }
    int32_t getOutputDataTypes(nvinfer1::DataType* output_types, int32_t output_count,
                               const nvinfer1::DataType* input_types,
                               int32_t input_count) const noexcept override;
    int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                            const nvinfer1::DimsExprs* shape_inputs, int32_t shape_input_count,
                            nvinfer1::DimsExprs* outputs, int32_t output_count,
                            nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(int32_t position,
                                   const nvinfer1::DynamicPluginTensorDesc* tensors,
                                   int32_t input_count, int32_t output_count) noexcept override;
    int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                            const nvinfer1::DynamicPluginTensorDesc* outputs,
                            int32_t output_count) noexcept override;
    size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                            const nvinfer1::DynamicPluginTensorDesc* outputs,
                            int32_t output_count) const noexcept override;
    // Shown by TensorRT's engine inspector.
    const char* getMetadataString() noexcept override { return description_.c_str(); }

    int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::PluginTensorDesc* outputs,
                          int32_t output_count) noexcept override;
    int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                    const nvinfer1::PluginTensorDesc* output_descs, const void* const* inputs,
                    void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(
        nvinfer1::IPluginResourceContext* context) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

  private:
    PoolPlugin(const char* op_type, std::string where, const PoolFields& fields,
               const qrnn::PoolArguments& arguments, nvinfer1::TensorRTPhase phase);
    PoolPlugin(const PoolPlugin& other);

    // Runs `body`, logs the line that it returns or throws; true if there was none.
    template <class Body>
    bool succeeds(Body body) const noexcept;
    std::string check_counts(int32_t inputs, int32_t outputs) const {
        return tensorrt::check_counts(arguments_.pooling, inputs, outputs);
    }
    qrnn::PoolArguments arguments_for(nvinfer1::DataType type, const nvinfer1::Dims& gates,
                                      const nvinfer1::Dims& c0) const;
    bool reserved_for(const qrnn::GpuDevice& device) const;

    const char* op_type_;
    std::string where_;        // names the layer in messages
    std::string description_;  // op and attributes
    PoolFields fields_;
    qrnn::PoolArguments arguments_;  // sizes and pointers stay empty
    nvinfer1::TensorRTPhase phase_;
    SerializedFields serialized_;
};

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_POOL_PLUGIN_H_
