// The fields of the TensorRT plugin: what the creators name, take and refuse.
#include <cmath>
#include <limits>

#include "trt_plugins.h"

namespace {

using namespace trt_plugins;

void test_creators() {
    CHECK(qrnn_deploy::tensorrt::creators().size() == 7, "expected 7 creators");
    for (const Op& op : kOps) {
        nvinfer1::IPluginCreatorV3One* creator = creator_of(op.name);
        CHECK(creator != nullptr, "%s is missing", op.name);
        if (creator == nullptr) continue;
        CHECK(std::string(creator->getPluginVersion()) == "1", "of %s", op.name);
        CHECK(std::string(creator->getPluginNamespace()) == "qrnn_deploy", "of %s", op.name);
        std::string names;
        for (int32_t i = 0; i < creator->getFieldNames()->nbFields; ++i) {
            names += std::string(creator->getFieldNames()->fields[i].name) + " ";
        }
        CHECK(names == "direction activation zoneout_scale plugin_version plugin_namespace ", "%s",
              names.c_str());
        const Parts parts(create(op.name, {}));
        CHECK(parts.core != nullptr && parts.build != nullptr && parts.runtime != nullptr, "parts");
        CHECK(std::string(parts.core->getPluginName()) == op.name, "of %s", op.name);
        CHECK(std::string(parts.core->getPluginVersion()) == "1", "of %s", op.name);
        CHECK(std::string(parts.core->getPluginNamespace()) == "qrnn_deploy", "of %s", op.name);
        CHECK(parts.build->getNbOutputs() == 2, "of %s", op.name);
        std::string bare = std::string(op.name) + " direction=1 activation=" + op.activation;
        if (op.inputs == 3) bare += " zoneout_scale=1";
        CHECK(parts.build->getMetadataString() == bare, "%s", parts.build->getMetadataString());
    }
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

// Strings come with and without a NUL at the end; every attribute may be left out.
void test_good_fields() {
    const int32_t reverse = -1;
    const float scale = 0.75f;
    const std::vector<PluginField> all = {{"direction", &reverse, PluginFieldType::kINT32, 1},
                                          text("activation", "relu"),
                                          {"zoneout_scale", &scale, PluginFieldType::kFLOAT32, 1},
                                          text("plugin_version", "1"),
                                          text("plugin_namespace", "qrnn_deploy")};
    const Parts parts(create("QRNNPoolFO", all));
    CHECK(parts.plugin != nullptr, "%s", logger.errors.c_str());
    const std::string described = parts.build->getMetadataString();
    CHECK(described == "QRNNPoolFO direction=-1 activation=relu zoneout_scale=0.75", "%s",
          described.c_str());
    CHECK(logger.notes.find("QRNNPoolFO 'the_layer': created, " + described) != std::string::npos,
          "%s", logger.notes.c_str());

    for (const auto& field : {text("activation", "identity\0rest", 13),
                              text("activation", "identity", 9), text("activation", "identity")}) {
        const Parts one(create("QRNNPoolIF", {field}));
        CHECK(one.plugin != nullptr, "%s", logger.errors.c_str());
        if (one.plugin == nullptr) continue;
        const std::string what = one.build->getMetadataString();
        CHECK(what == "QRNNPoolIF direction=1 activation=identity zoneout_scale=1", "%s",
              what.c_str());
    }
    // An empty namespace is the operator's default; an empty string may come without data.
    const PluginField empty = {"plugin_namespace", nullptr, PluginFieldType::kCHAR, 0};
    CHECK(Parts(create("QRNNPoolF", {empty})).plugin != nullptr, "%s", logger.errors.c_str());
    const PluginFieldCollection none = {0, nullptr};
    CHECK(Parts(creator_of("QRNNPoolF")->createPlugin(nullptr, &none, TensorRTPhase::kBUILD))
                  .plugin != nullptr,
          "%s", logger.errors.c_str());
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

void test_bad_fields() {
    const int32_t two = 2, forward[2] = {1, 1}, zero = 0;
    const int64_t wide = 1;
    const float nan = NAN, none = 0.0f, much = 1.5f, half = 0.5f, negative = -0.5f;
    const float infinite = std::numeric_limits<float>::infinity();
    const double twice = 1.0;
    const std::string endless(65, 't');
    const auto int32 = [](const char* name, const int32_t* data, int32_t length) {
        return PluginField(name, data, PluginFieldType::kINT32, length);
    };
    const auto float32 = [](const char* name, const float* data, int32_t length) {
        return PluginField(name, data, PluginFieldType::kFLOAT32, length);
    };
    const struct {
        const char* op;
        PluginField field;
        const char* message;
    } bad[] = {
        {"QRNNPoolFO", int32("direction", &two, 1), "direction is 2, expected 1 (forward) or -1"},
        {"QRNNPoolFO", int32("direction", &zero, 1), "direction is 0, expected 1 (forward) or -1"},
        {"QRNNPoolFO", int32("direction", forward, 2), "is 2 of int32, expected 1 of int32"},
        {"QRNNPoolFO", int32("direction", forward, 0), "is 0 of int32, expected 1 of int32"},
        {"QRNNPoolFO", int32("direction", forward, -1), "is -1 of int32, expected 1 of int32"},
        {"QRNNPoolFO", int32("direction", nullptr, 1), "is 1 of int32 without data, expected 1"},
        {"QRNNPoolFO", {"direction", &wide, PluginFieldType::kINT64, 1}, "is 1 of int64, expected"},
        {"QRNNPoolFO", text("direction", "1"), "direction is 1 of char, expected 1 of int32"},
        {"QRNNPoolF", text("activation", "gelu"), "activation is 'gelu', expected tanh, relu or"},
        {"QRNNPoolF", text("activation", "Tanh"), "activation is 'Tanh', expected tanh, relu or"},
        {"QRNNPoolF", text("activation", "tanhx"), "activation is 'tanhx', expected tanh, relu or"},
        {"QRNNPoolF", text("activation", "tanhx", 3), "activation is 'tan', expected tanh, relu"},
        {"QRNNPoolF", text("activation", ""), "activation is '', expected tanh, relu or identity"},
        {"QRNNPoolF", text("activation", "tanh\n"), "activation has unprintable characters"},
        {"QRNNPoolF", text("activation", endless.c_str()), "is 65 of char, expected 0 to 64 of"},
        {"QRNNPoolF", text("activation", nullptr, 4), "is 4 of char without data, expected 0 to"},
        {"QRNNPoolF", int32("activation", &two, 1), "activation is 1 of int32, expected 0 to 64"},
        {"QRNNPoolF", float32("zoneout_scale", &nan, 1), "zoneout_scale is nan, expected a number"},
        {"QRNNPoolF", float32("zoneout_scale", &none, 1), "zoneout_scale is 0, expected a number"},
        {"QRNNPoolF", float32("zoneout_scale", &much, 1),
         "zoneout_scale is 1.5, expected a number"},
        {"QRNNPoolF", float32("zoneout_scale", &negative, 1), "zoneout_scale is -0.5, expected a"},
        {"QRNNPoolF", float32("zoneout_scale", &infinite, 1), "zoneout_scale is inf, expected a"},
        {"QRNNPoolF", float32("zoneout_scale", &half, 2), "is 2 of float32, expected 1 of float32"},
        {"QRNNPoolF", int32("zoneout_scale", &two, 1), "is 1 of int32, expected 1 of float32"},
        {"QRNNPoolF",
         {"zoneout_scale", &twice, PluginFieldType::kFLOAT64, 1},
         "is 1 of float64, expected 1 of float32"},
        {"QRNNPoolIFO", float32("zoneout_scale", &half, 1), "is 0.5, expected 1: this pooling has"},
        {"QRNNPoolIF", float32("zoneout_scale", &half, 1), "is 0.5, expected 1: this pooling has"},
        {"QRNNPoolIF", float32("zoneout_scale", &nan, 1), "is nan, expected 1: this pooling has"},
        {"SRUPool", float32("zoneout_scale", &half, 1),
         "is 0.5, expected 1: an SRU has no zoneout"},
        {"SRUPoolInput", float32("zoneout_scale", &none, 1), "is 0, expected 1: an SRU has no"},
        {"SRUPoolNoSkip", float32("zoneout_scale", &nan, 1), "is nan, expected 1: an SRU has no"},
        {"SRUPool", text("activation", "sigmoid"), "activation is 'sigmoid', expected tanh, relu"},
        {"SRUPool", text("plugin_version", "2"), "plugin_version is '2', expected '1'"},
        {"QRNNPoolFO", text("plugin_version", "2"), "plugin_version is '2', expected '1'"},
        {"QRNNPoolFO", int32("plugin_version", &two, 1), "plugin_version is 1 of int32, expected"},
        {"QRNNPoolFO", text("plugin_namespace", "other"), "is 'other', expected 'qrnn_deploy'"},
        {"QRNNPoolFO", text("hidden_size", "4"), "field 'hidden_size' is unknown, expected direct"},
        {"QRNNPoolFO", int32("built_for", forward, 2), "field 'built_for' is unknown, expected"},
        {"QRNNPoolFO", int32(nullptr, &two, 1), "a field has no name"},
    };
    for (const auto& one : bad) {
        const Parts parts(create(one.op, {one.field}));
        CHECK(parts.plugin == nullptr, "created with %s", one.message);
        CHECK(logger.told(one.message), "expected '%s'", one.message);
    }
    const PluginField tanh = text("activation", "tanh");
    CHECK(create("QRNNPoolF", {tanh, tanh}) == nullptr, "created with a field given twice");
    CHECK(logger.told("field activation is given twice, expected once"), "twice");
    nvinfer1::IPluginCreatorV3One* creator = creator_of("QRNNPoolF");
    for (const PluginFieldCollection& broken :
         {PluginFieldCollection{-1, &tanh}, PluginFieldCollection{1, nullptr}}) {
        CHECK(creator->createPlugin("x", &broken, TensorRTPhase::kBUILD) == nullptr, "created");
        CHECK(logger.told("the field collection is missing"), "broken collection");
    }
    CHECK(creator->createPlugin("x", nullptr, TensorRTPhase::kBUILD) == nullptr, "created");
    CHECK(logger.told("QRNNPoolF 'x': the field collection is missing"), "no collection");
}

}  // namespace

int main() { return run_tests(test_creators, test_good_fields, test_bad_fields); }
