#include "attributes.h"

#include <cstdint>
#include <sstream>
#include <vector>

#include "status.h"

namespace qrnn_deploy {
namespace {

enum class Found { kNo, kYes, kOfOtherType };

// The C API answers "absent" and "of another type" alike, with an error; the types tell them
// apart. Whatever the error says is dropped.
class AttributeReader {
  public:
    AttributeReader(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

    Found read(const char* name, int64_t& value) const {
        if (succeeded(api_.KernelInfoGetAttribute_int64(info_, name, &value))) return Found::kYes;
        return is_float(name) || is_string(name) ? Found::kOfOtherType : Found::kNo;
    }
    Found read(const char* name, float& value) const {
        if (succeeded(api_.KernelInfoGetAttribute_float(info_, name, &value))) return Found::kYes;
        return is_int(name) || is_string(name) ? Found::kOfOtherType : Found::kNo;
    }
    Found read(const char* name, std::string& value) const {
        size_t size = 0;
        if (!succeeded(api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
            return is_int(name) || is_float(name) ? Found::kOfOtherType : Found::kNo;
        }
        std::vector<char> text(size + 1, '\0');
        if (!succeeded(api_.KernelInfoGetAttribute_string(info_, name, text.data(), &size))) {
            return Found::kNo;
        }
        value = text.data();
        return Found::kYes;
    }

  private:
    bool succeeded(OrtStatus* status) const {
        if (status == nullptr) return true;
        api_.ReleaseStatus(status);
        return false;
    }
    bool is_int(const char* name) const {
        int64_t value;
        return succeeded(api_.KernelInfoGetAttribute_int64(info_, name, &value));
    }
    bool is_float(const char* name) const {
        float value;
        return succeeded(api_.KernelInfoGetAttribute_float(info_, name, &value));
    }
    bool is_string(const char* name) const {
        size_t size = 0;
        return succeeded(api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size));
    }

    const OrtApi& api_;
    const OrtKernelInfo* info_;
};

template <class Value>
std::string message(const std::string& where, const char* name, const Value& got,
                    const char* expected) {
    std::ostringstream text;
    text << where << ": attribute " << name << " is " << got << ", expected " << expected;
    return text.str();
}

}  // namespace

OrtStatus* read_attributes(const OrtApi& api, const OrtKernelInfo* info, const std::string& where,
                           qrnn::PoolArguments& arguments) {
    const AttributeReader reader(api, info);
    const auto wrong_type = [&](const char* name, const char* expected) {
        return invalid_argument(api, message(where, name, "of another type", expected));
    };

    std::string version = kPluginVersion;
    if (reader.read("plugin_version", version) == Found::kOfOtherType) {
        return wrong_type("plugin_version", "a string");
    }
    if (version != kPluginVersion) {
        return invalid_argument(
            api, message(where, "plugin_version", "'" + version + "'",
                         "'1': the file needs another version of the qrnn-deploy kernels"));
    }

    int64_t direction = 1;
    if (reader.read("direction", direction) == Found::kOfOtherType) {
        return wrong_type("direction", "an int");
    }
    if (direction != 1 && direction != -1) {
        return invalid_argument(
            api, message(where, "direction", direction, "1 (forward) or -1 (reverse)"));
    }
    arguments.reverse = direction == -1;

    std::string activation = "tanh";
    if (reader.read("activation", activation) == Found::kOfOtherType) {
        return wrong_type("activation", "a string");
    }
    if (activation == "tanh") {
        arguments.activation = qrnn::Activation::kTanh;
    } else if (activation == "relu") {
        arguments.activation = qrnn::Activation::kRelu;
    } else if (activation == "identity") {
        arguments.activation = qrnn::Activation::kIdentity;
    } else {
        return invalid_argument(
            api, message(where, "activation", "'" + activation + "'", "tanh, relu or identity"));
    }

    arguments.zoneout_scale = 1.0f;
    if (reader.read("zoneout_scale", arguments.zoneout_scale) == Found::kOfOtherType) {
        return wrong_type("zoneout_scale", "a float");
    }
    if (qrnn::has_input_gate(arguments.pooling)) {
        if (arguments.zoneout_scale != 1.0f) {
            return invalid_argument(api, message(where, "zoneout_scale", arguments.zoneout_scale,
                                                 "1: this pooling has an input gate"));
        }
    } else if (!(arguments.zoneout_scale > 0.0f && arguments.zoneout_scale <= 1.0f)) {
        return invalid_argument(api, message(where, "zoneout_scale", arguments.zoneout_scale,
                                             "a number above 0 and at most 1"));
    }
    return nullptr;
}

}  // namespace qrnn_deploy
