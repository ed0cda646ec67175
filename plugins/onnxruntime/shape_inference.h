// Types and shapes of the outputs, as far as those of the inputs are known.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_SHAPE_INFERENCE_H_
#define QRNN_DEPLOY_ONNXRUNTIME_SHAPE_INFERENCE_H_

#include <onnxruntime_c_api.h>

namespace qrnn_deploy {

// ONNX Runtime passes no API to the callback, so it is kept from the registration.
void set_inference_api(const OrtApi& api);
const OrtApi& inference_api();

// Of all types registered under one name ONNX Runtime asks only the first, so the element type of
// h is taken from `gates`.
OrtStatus* infer_shapes_of_pool(const OrtApi& api, int gate_count, OrtShapeInferContext* context);

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_SHAPE_INFERENCE_H_
