// What TensorRT would bring: a logger, symbolic dimensions, tensor descriptions; and checks that
// count their failures.
#ifndef QRNN_DEPLOY_TESTS_TRT_FAKES_H_
#define QRNN_DEPLOY_TESTS_TRT_FAKES_H_

#include <NvInferRuntime.h>

#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace trt_fakes {

inline int failures = 0;

#define CHECK(condition, ...)                                                 \
    do {                                                                      \
        if (!(condition)) {                                                   \
            ++trt_fakes::failures;                                            \
            std::printf("FAILED %s:%d %s: ", __FILE__, __LINE__, #condition); \
            std::printf(__VA_ARGS__);                                         \
            std::printf("\n");                                                \
        }                                                                     \
    } while (false)

class Logger final : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override {
        (severity <= Severity::kWARNING ? errors : notes) += std::string(message) + "\n";
    }
    // Whether there was exactly one error, a line that holds `text`; it is forgotten.
    bool told(const std::string& text) {
        const bool one = errors.find('\n') + 1 == errors.size() && !errors.empty();
        const bool held = one && errors.find(text) != std::string::npos;
        if (!held) std::printf("logged:\n%s", errors.c_str());
        errors.clear();
        return held;
    }
    bool quiet() const { return errors.empty(); }

    std::string errors, notes;
};

class Finder final : public nvinfer1::ILoggerFinder {
  public:
    explicit Finder(nvinfer1::ILogger* logger) : logger_(logger) {}
    nvinfer1::ILogger* findLogger() override { return logger_; }

  private:
    nvinfer1::ILogger* logger_;
};

// A dimension is its text, such as "(W / 3)", or a constant.
class Dimension final : public nvinfer1::IDimensionExpr {
  public:
    Dimension(std::string text, bool constant, int64_t value)
        : text_(std::move(text)), body_(constant, value) {
        mImpl = &body_;
    }
    const std::string& text() const { return text_; }

  private:
    class Body final : public nvinfer1::apiv::VDimensionExpr {
      public:
        Body(bool constant, int64_t value) : constant_(constant), value_(value) {}
        bool isConstant() const override { return constant_; }
        int64_t getConstantValue() const override { return value_; }
        bool isSizeTensor() const override { return false; }

      private:
        bool constant_;
        int64_t value_;
    };
    std::string text_;
    Body body_;
};

class ExprBuilder final : public nvinfer1::IExprBuilder {
  public:
    ExprBuilder() : body_(this) { mImpl = &body_; }
    const Dimension* symbol(const std::string& name) { return keep(name, false, 0); }
    const Dimension* fixed(int64_t value) { return keep(std::to_string(value), true, value); }

    bool broken = false;  // answers nothing, as when TensorRT is out of memory

  private:
    const Dimension* keep(const std::string& text, bool constant, int64_t value) {
        kept_.push_back(std::make_unique<Dimension>(text, constant, value));
        return kept_.back().get();
    }

    class Body final : public nvinfer1::apiv::VExprBuilder {
      public:
        explicit Body(ExprBuilder* owner) : owner_(owner) {}
        const nvinfer1::IDimensionExpr* constant(int64_t value) override {
            return owner_->broken ? nullptr : owner_->fixed(value);
        }
        const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation operation,
                                                  const nvinfer1::IDimensionExpr& first,
                                                  const nvinfer1::IDimensionExpr& second) override {
            if (owner_->broken) return nullptr;
            if (operation != nvinfer1::DimensionOperation::kFLOOR_DIV) return nullptr;
            if (first.isConstant() && second.isConstant()) {
                return owner_->fixed(first.getConstantValue() / second.getConstantValue());
            }
            const auto text = [](const nvinfer1::IDimensionExpr& dimension) {
                return static_cast<const Dimension&>(dimension).text();
            };
            return owner_->symbol("(" + text(first) + " / " + text(second) + ")");
        }
        const nvinfer1::IDimensionExpr* declareSizeTensor(
            int32_t, const nvinfer1::IDimensionExpr&, const nvinfer1::IDimensionExpr&) override {
            return nullptr;
        }

      private:
        ExprBuilder* owner_;
    };
    Body body_;
    std::vector<std::unique_ptr<Dimension>> kept_;
};

inline nvinfer1::Dims dims(std::initializer_list<int64_t> sizes) {
    nvinfer1::Dims result = {};
    for (int64_t size : sizes) result.d[result.nbDims++] = size;
    return result;
}

inline nvinfer1::PluginTensorDesc tensor(std::initializer_list<int64_t> sizes,
                                         nvinfer1::DataType type) {
    nvinfer1::PluginTensorDesc desc = {};
    desc.dims = dims(sizes);
    desc.type = type;
    desc.format = nvinfer1::TensorFormat::kLINEAR;
    desc.scale = 1.0f;
    return desc;
}

// The creator of the name among `count` of them; null if there is none.
inline nvinfer1::IPluginCreatorV3One* find_creator(
    nvinfer1::IPluginCreatorInterface* const* creators, int32_t count, const std::string& name) {
    for (int32_t i = 0; i < count; ++i) {
        auto* creator = static_cast<nvinfer1::IPluginCreatorV3One*>(creators[i]);
        if (creator->getPluginName() == name) return creator;
    }
    return nullptr;
}

// The parts of a plugin, which it owns.
struct Parts {
    std::unique_ptr<nvinfer1::IPluginV3> plugin;
    nvinfer1::IPluginV3OneCore* core = nullptr;
    nvinfer1::IPluginV3OneBuild* build = nullptr;
    nvinfer1::IPluginV3OneRuntime* runtime = nullptr;

    explicit Parts(nvinfer1::IPluginV3* owned) : plugin(owned) {
        using nvinfer1::PluginCapabilityType;
        if (plugin == nullptr) return;
        const auto part = [this](PluginCapabilityType type) {
            return plugin->getCapabilityInterface(type);
        };
        core = static_cast<nvinfer1::IPluginV3OneCore*>(part(PluginCapabilityType::kCORE));
        build = static_cast<nvinfer1::IPluginV3OneBuild*>(part(PluginCapabilityType::kBUILD));
        runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(part(PluginCapabilityType::kRUNTIME));
    }
};

}  // namespace trt_fakes

#endif  // QRNN_DEPLOY_TESTS_TRT_FAKES_H_
