// The tensors of a pooling node: their order, types and sizes. A check returns an empty string or
// one line that says what is wrong.
#ifndef QRNN_DEPLOY_TENSORRT_TENSORS_H_
#define QRNN_DEPLOY_TENSORRT_TENSORS_H_

#include <NvInferRuntime.h>

#include <string>

#include "pool.h"

namespace qrnn_deploy::tensorrt {

inline constexpr int32_t kInputs = 3;
inline constexpr int32_t kOutputs = 2;
// Inputs, then outputs, as TensorRT counts them.
inline constexpr int32_t kGates = 0, kC0 = 1, kLengths = 2, kH = 3, kCT = 4;

bool is_storage(nvinfer1::DataType type);
qrnn::Storage storage_of(nvinfer1::DataType storage_type);
// Whether the tensor at `place` may have `type`; for h, beside gates of `gates_type`.
bool type_fits(int32_t place, nvinfer1::DataType type, nvinfer1::DataType gates_type);

std::string check_counts(int32_t inputs, int32_t outputs);
std::string check_input_types(const nvinfer1::DataType* inputs);
std::string check_rank(int32_t input, int32_t rank);
// The columns of gates against the hidden size of c0.
std::string check_columns(qrnn::Pooling pooling, int64_t columns, int64_t hidden);
// Sizes that TensorRT is about to run with.
std::string check_shapes(qrnn::Pooling pooling, const nvinfer1::PluginTensorDesc* inputs);

// Whether no size is left open.
bool is_known(const nvinfer1::Dims& dims);

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_TENSORS_H_
