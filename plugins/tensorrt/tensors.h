// The tensors of a pooling node: their types and sizes. The order of the inputs and the rules for
// their sizes are the core's (node_inputs.h). A check returns an empty string or one line that says
// what is wrong.
#ifndef QRNN_DEPLOY_TENSORRT_TENSORS_H_
#define QRNN_DEPLOY_TENSORRT_TENSORS_H_

#include <NvInferRuntime.h>

#include <string>

#include "node_inputs.h"
#include "pool.h"

namespace qrnn_deploy::tensorrt {

// As TensorRT counts them: inputs, then h and c_T.
inline constexpr int32_t kOutputs = 2;

bool is_storage(nvinfer1::DataType type);
qrnn::Storage storage_of(nvinfer1::DataType storage_type);
// Whether the tensor at `place` may have `type`; for skip and h, beside gates of `gates_type`.
bool type_fits(qrnn::Pooling pooling, int32_t place, nvinfer1::DataType type,
               nvinfer1::DataType gates_type);

std::string check_counts(qrnn::Pooling pooling, int32_t inputs, int32_t outputs);
std::string check_input_types(qrnn::Pooling pooling, const nvinfer1::DataType* inputs);
// Sizes that TensorRT is about to run with.
std::string check_shapes(qrnn::Pooling pooling, const nvinfer1::PluginTensorDesc* inputs);

// Whether no size is left open.
bool is_known(const nvinfer1::Dims& dims);

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_TENSORS_H_
