// The rules for the attributes of a pooling node (docs/op.md), for every framework that hands
// nodes over. No framework, no exception of its own.
#ifndef QRNN_DEPLOY_CORE_NODE_ATTRIBUTES_H_
#define QRNN_DEPLOY_CORE_NODE_ATTRIBUTES_H_

#include <cstdint>
#include <string>

#include "pool.h"

namespace qrnn {

// Value of `plugin_version` that these kernels implement.
inline constexpr char kPluginVersion[] = "1";

// As the node gives them; an attribute that it leaves out keeps its default. Those of an SRU
// differ: default_attributes.
struct NodeAttributes {
    int64_t direction = 1;
    std::string activation = "tanh";
    float zoneout_scale = 1.0f;
    std::string plugin_version = kPluginVersion;
};

NodeAttributes default_attributes(Pooling pooling);

// Fills the fields of `arguments` that follow from attributes, for its pooling. Returns an empty
// string, or the first attribute that is wrong: "direction is 2, expected 1 (forward) or ...".
std::string apply_attributes(const NodeAttributes& attributes, PoolArguments& arguments);

const char* activation_name(Activation activation);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_NODE_ATTRIBUTES_H_
