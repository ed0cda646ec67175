#include "fields.h"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace qrnn_deploy::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

// No value is longer; what is longer is not a string of ours, and must not fill a log.
constexpr int32_t kLongestString = 64;

const char* name_of(PluginFieldType type) {
    switch (type) {
        case PluginFieldType::kFLOAT16: return "float16";
        case PluginFieldType::kFLOAT32: return "float32";
        case PluginFieldType::kFLOAT64: return "float64";
        case PluginFieldType::kINT8: return "int8";
        case PluginFieldType::kINT16: return "int16";
        case PluginFieldType::kINT32: return "int32";
        case PluginFieldType::kINT64: return "int64";
        case PluginFieldType::kCHAR: return "char";
        case PluginFieldType::kDIMS: return "dims";
        default: return "another type";
    }
}

template <class Value>
constexpr PluginFieldType kTypeOf = PluginFieldType::kUNKNOWN;
template <>
constexpr PluginFieldType kTypeOf<int32_t> = PluginFieldType::kINT32;
template <>
constexpr PluginFieldType kTypeOf<float> = PluginFieldType::kFLOAT32;

std::string wrong(const PluginField& field, PluginFieldType expected, const char* length) {
    std::ostringstream text;
    text << "field " << field.name << " is " << field.length << " of " << name_of(field.type)
         << (field.data == nullptr ? " without data" : "") << ", expected " << length << " of "
         << name_of(expected);
    return text.str();
}

template <class Value>
std::string read(const PluginField& field, int32_t count, Value* values) {
    if (field.type != kTypeOf<Value> || field.length != count || field.data == nullptr) {
        return wrong(field, kTypeOf<Value>, std::to_string(count).c_str());
    }
    std::memcpy(values, field.data, count * sizeof(Value));
    return "";
}

std::string read(const PluginField& field, std::string& value) {
    const bool fits = field.length >= 0 && field.length <= kLongestString;
    const bool readable = field.length == 0 || field.data != nullptr;
    if (field.type != PluginFieldType::kCHAR || !fits || !readable) {
        return wrong(field, PluginFieldType::kCHAR, "0 to 64");
    }
    const char* begin = static_cast<const char*>(field.data);
    const char* end = std::find(begin, begin + field.length, '\0');
    const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
    if (!std::all_of(begin, end, printable)) {
        return "field " + std::string(field.name) + " has unprintable characters, expected ASCII";
    }
    value.assign(begin, end);
    return "";
}

std::string read_field(const PluginField& field, TensorRTPhase phase, PoolFields& fields) {
    const std::string name = field.name;
    qrnn::NodeAttributes& attributes = fields.attributes;
    if (name == "direction") {
        int32_t direction = 0;
        const std::string error = read(field, 1, &direction);
        attributes.direction = direction;
        return error;
    }
    if (name == "activation") return read(field, attributes.activation);
    if (name == "zoneout_scale") return read(field, 1, &attributes.zoneout_scale);
    if (name == "plugin_version") return read(field, attributes.plugin_version);
    if (name == "plugin_namespace") {
        std::string value;
        const std::string error = read(field, value);
        if (!error.empty() || value.empty() || value == kNamespace) return error;
        return "field plugin_namespace is '" + value + "', expected '" + kNamespace + "'";
    }
    if (name == "built_for" && phase == TensorRTPhase::kRUNTIME) {
        int32_t values[2] = {};
        const std::string error = read(field, 2, values);
        fields.built_for = {values[0], values[1]};
        return error;
    }
    return "field '" + name.substr(0, kLongestString) +
           "' is unknown, expected direction, activation, zoneout_scale, plugin_version or "
           "plugin_namespace";
}

}  // namespace

std::string read_fields(const PluginFieldCollection* collection, TensorRTPhase phase,
                        PoolFields& fields) {
    if (collection == nullptr || collection->nbFields < 0 ||
        (collection->nbFields > 0 && collection->fields == nullptr)) {
        return "the field collection is missing, expected one (without fields for the defaults)";
    }
    for (int32_t i = 0; i < collection->nbFields; ++i) {
        const PluginField& field = collection->fields[i];
        if (field.name == nullptr) return "a field has no name";
        for (int32_t before = 0; before < i; ++before) {
            if (std::strcmp(field.name, collection->fields[before].name) == 0) {
                return "field " + std::string(field.name) + " is given twice, expected once";
            }
        }
        const std::string error = read_field(field, phase, fields);
        if (!error.empty()) return error;
    }
    return "";
}

const PluginFieldCollection& field_names() {
    static const PluginField fields[] = {
        {"direction", nullptr, PluginFieldType::kINT32, 1},
        {"activation", nullptr, PluginFieldType::kCHAR, 1},
        {"zoneout_scale", nullptr, PluginFieldType::kFLOAT32, 1},
        {"plugin_version", nullptr, PluginFieldType::kCHAR, 1},
        {"plugin_namespace", nullptr, PluginFieldType::kCHAR, 1},
    };
    static const PluginFieldCollection collection = {5, fields};
    return collection;
}

const PluginFieldCollection& SerializedFields::of(const PoolFields& fields) {
    const auto text = [](const char* name, const std::string& value) {
        return PluginField(name, value.data(), PluginFieldType::kCHAR,
                           static_cast<int32_t>(value.size()));
    };
    direction_ = static_cast<int32_t>(fields.attributes.direction);
    activation_ = fields.attributes.activation;
    zoneout_scale_ = fields.attributes.zoneout_scale;
    version_ = fields.attributes.plugin_version;
    namespace_ = kNamespace;
    built_for_ = {fields.built_for.multiprocessors, fields.built_for.compute_capability};
    fields_ = {
        PluginField("direction", &direction_, PluginFieldType::kINT32, 1),
        text("activation", activation_),
        PluginField("zoneout_scale", &zoneout_scale_, PluginFieldType::kFLOAT32, 1),
        text("plugin_version", version_),
        text("plugin_namespace", namespace_),
        PluginField("built_for", built_for_.data(), PluginFieldType::kINT32, 2),
    };
    collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
    return collection_;
}

}  // namespace qrnn_deploy::tensorrt
