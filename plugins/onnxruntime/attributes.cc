#include "attributes.h"

#include <cstdint>
#include <vector>

#include "node_attributes.h"
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

// Reads one attribute; an error where the node gives it another type.
template <class Value>
OrtStatus* read(const OrtApi& api, const AttributeReader& reader, const std::string& where,
                const char* name, const char* expected, Value& value) {
    if (reader.read(name, value) != Found::kOfOtherType) return nullptr;
    return invalid_argument(
        api, where + ": attribute " + name + " is of another type, expected " + expected);
}

}  // namespace

OrtStatus* read_attributes(const OrtApi& api, const OrtKernelInfo* info, const std::string& where,
                           qrnn::PoolArguments& arguments) {
    const AttributeReader reader(api, info);
    qrnn::NodeAttributes node = qrnn::default_attributes(arguments.pooling);
    QRNN_DEPLOY_RETURN_IF_ERROR(
        read(api, reader, where, "plugin_version", "a string", node.plugin_version));
    QRNN_DEPLOY_RETURN_IF_ERROR(read(api, reader, where, "direction", "an int", node.direction));
    QRNN_DEPLOY_RETURN_IF_ERROR(
        read(api, reader, where, "activation", "a string", node.activation));
    QRNN_DEPLOY_RETURN_IF_ERROR(
        read(api, reader, where, "zoneout_scale", "a float", node.zoneout_scale));
    const std::string error = qrnn::apply_attributes(node, arguments);
    if (!error.empty()) return invalid_argument(api, where + ": attribute " + error);
    return nullptr;
}

}  // namespace qrnn_deploy
