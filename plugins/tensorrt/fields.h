// The plugin's fields: as TensorRT's ONNX parser makes them from a node's attributes, and as they
// are written into an engine.
//
//   direction         kINT32    1
//   activation        kCHAR     any length; ends at the first NUL, if there is one
//   zoneout_scale     kFLOAT32  1
//   plugin_version    kCHAR
//   plugin_namespace  kCHAR
//   built_for         kINT32    2: written into engines only (PoolFields::built_for)
//
// A field that is left out has its default (docs/op.md). A field of any other name is refused:
// the parser passes the names of `field_names()` and no others, so another one was given by a
// program and would be lost, or is in an engine of a later version that needs it understood.
#ifndef QRNN_DEPLOY_TENSORRT_FIELDS_H_
#define QRNN_DEPLOY_TENSORRT_FIELDS_H_

#include <NvInferRuntime.h>

#include <array>
#include <string>

#include "node_attributes.h"

namespace qrnn_deploy::tensorrt {

inline constexpr char kNamespace[] = "qrnn_deploy";

// The GPU that an engine was built on; its scratch memory was measured for it.
struct BuiltFor {
    int32_t multiprocessors = 0;
    int32_t compute_capability = 0;
};

struct PoolFields {
    qrnn::NodeAttributes attributes;
    BuiltFor built_for;
};

// Returns an empty string, or the first thing that is wrong with types, lengths or names. Values
// are left to qrnn::apply_attributes, save the namespace's. `phase` says whether `built_for` is
// known.
std::string read_fields(const nvinfer1::PluginFieldCollection* collection,
                        nvinfer1::TensorRTPhase phase, PoolFields& fields);

// Names and types of the fields of a node, without data.
const nvinfer1::PluginFieldCollection& field_names();

// Fields with their data, for an engine. The collection points into the object.
class SerializedFields {
  public:
    const nvinfer1::PluginFieldCollection& of(const PoolFields& fields);

  private:
    int32_t direction_ = 0;
    std::string activation_;
    float zoneout_scale_ = 0.0f;
    std::string version_;
    std::string namespace_;
    std::array<int32_t, 2> built_for_ = {};
    std::array<nvinfer1::PluginField, 6> fields_;
    nvinfer1::PluginFieldCollection collection_;
};

}  // namespace qrnn_deploy::tensorrt

#endif  // QRNN_DEPLOY_TENSORRT_FIELDS_H_
