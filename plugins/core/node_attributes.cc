#include "node_attributes.h"

#include <sstream>

namespace qrnn {
namespace {

constexpr Activation kActivations[] = {Activation::kTanh, Activation::kRelu, Activation::kIdentity};

template <class Value>
std::string wrong(const char* name, const Value& got, const char* expected) {
    std::ostringstream text;
    text << name << " is " << got << ", expected " << expected;
    return text.str();
}

bool activation_from(const std::string& name, Activation& activation) {
    for (Activation candidate : kActivations) {
        if (name != activation_name(candidate)) continue;
        activation = candidate;
        return true;
    }
    return false;
}

}  // namespace

const char* activation_name(Activation activation) {
    switch (activation) {
        case Activation::kTanh: return "tanh";
        case Activation::kRelu: return "relu";
        case Activation::kIdentity: return "identity";
    }
    return "unknown";
}

NodeAttributes default_attributes(Pooling pooling) {
    NodeAttributes attributes;
    if (is_sru(pooling)) attributes.activation = activation_name(Activation::kIdentity);
    return attributes;
}

std::string apply_attributes(const NodeAttributes& attributes, PoolArguments& arguments) {
    if (attributes.plugin_version != kPluginVersion) {
        return wrong("plugin_version", "'" + attributes.plugin_version + "'",
                     "'1': the file needs another version of the qrnn-deploy kernels");
    }
    if (attributes.direction != 1 && attributes.direction != -1) {
        return wrong("direction", attributes.direction, "1 (forward) or -1 (reverse)");
    }
    arguments.reverse = attributes.direction == -1;
    if (!activation_from(attributes.activation, arguments.activation)) {
        return wrong("activation", "'" + attributes.activation + "'", "tanh, relu or identity");
    }
    const float scale = attributes.zoneout_scale;
    if (!takes_zoneout(arguments.pooling)) {
        if (scale != 1.0f) {
            return wrong("zoneout_scale", scale,
                         is_sru(arguments.pooling) ? "1: an SRU has no zoneout"
                                                   : "1: this pooling has an input gate");
        }
    } else if (!(scale > 0.0f && scale <= 1.0f)) {  // NaN is refused, too
        return wrong("zoneout_scale", scale, "a number above 0 and at most 1");
    }
    arguments.zoneout_scale = scale;
    return "";
}

}  // namespace qrnn
