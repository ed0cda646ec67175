// Messages reach the logger of TensorRT 10 and of TensorRT 11, whichever headers the library was
// built with: the interfaces are written out here in both forms.
#include "log.h"
#include "trt_fakes.h"

namespace form_10 {

class ILogger {
  public:
    virtual void log(nvinfer1::ILogger::Severity severity, const char* message) noexcept = 0;
    virtual ~ILogger() = default;
};

class ILoggerFinder {
  public:
    virtual ILogger* findLogger() = 0;

  protected:
    virtual ~ILoggerFinder() = default;
};

}  // namespace form_10

namespace form_11 {

class ILogger : public nvinfer1::IVersionedInterface {
  public:
    nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
    virtual void log(nvinfer1::ILogger::Severity severity, const char* message) noexcept = 0;
};

class ILoggerFinder : public nvinfer1::IVersionedInterface {
  public:
    nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override {
        return {"ILoggerFinder", 1, 0};
    }
    virtual ILogger* findLogger() = 0;
};

}  // namespace form_11

namespace {

using Severity = nvinfer1::ILogger::Severity;

// What a program may derive from beside the logger.
class Recorder : public nvinfer1::IVersionedInterface {
  public:
    nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"Other", 1, 0}; }
};

template <class Base>
class Keeps : public Base {
  public:
    void log(Severity severity, const char* message) noexcept override {
        kept += std::to_string(static_cast<int>(severity)) + message;
    }
    std::string kept;
};

// A recorder first, so that the logger lies inside of the object.
template <class Base>
class KeepsAndRecords : public Recorder, public Keeps<Base> {};

template <class Base, class Logger>
class Finds : public Base {
  public:
    explicit Finds(Logger* logger) : logger_(logger) {}
    Logger* findLogger() override { return logger_; }

  private:
    Logger* logger_;
};

template <class Finder, class Logger, class Keeper>
void test_form(const char* what) {
    Keeper keeper;
    Logger* logger = &keeper;
    Finds<Finder, Logger> finder(logger);
    Finder* base = &finder;
    qrnn_deploy::tensorrt::set_logger_finder(reinterpret_cast<nvinfer1::ILoggerFinder*>(base));
    qrnn_deploy::tensorrt::log(Severity::kWARNING, "the message");
    const std::string expected =
        std::to_string(static_cast<int>(Severity::kWARNING)) + "qrnn-deploy: the message";
    CHECK(keeper.kept == expected, "%s kept '%s'", what, keeper.kept.c_str());
}

// Objects of code that was compiled without type information are left alone: their form cannot
// be told.
void test_without_type_information() {
    static int calls = 0;
    calls = 0;
    using Function = void* (*)();
    const Function called = +[]() -> void* {
        ++calls;
        return nullptr;
    };
    struct {
        const void* offset_and_type[2] = {nullptr, nullptr};
        Function functions[6];
    } table;
    for (Function& function : table.functions) function = called;
    const Function* object = table.functions;
    qrnn_deploy::tensorrt::set_logger_finder(reinterpret_cast<nvinfer1::ILoggerFinder*>(&object));
    qrnn_deploy::tensorrt::log(Severity::kINFO, "dropped");
    CHECK(calls == 0, "%d calls", calls);
}

}  // namespace

int main() {
    test_form<form_10::ILoggerFinder, form_10::ILogger, Keeps<form_10::ILogger>>("TensorRT 10");
    test_form<form_11::ILoggerFinder, form_11::ILogger, Keeps<form_11::ILogger>>("TensorRT 11");
    test_form<form_10::ILoggerFinder, form_10::ILogger, KeepsAndRecords<form_10::ILogger>>(
        "TensorRT 10, with another interface");
    test_form<form_11::ILoggerFinder, form_11::ILogger, KeepsAndRecords<form_11::ILogger>>(
        "TensorRT 11, with another interface");
    test_without_type_information();
    qrnn_deploy::tensorrt::set_logger_finder(nullptr);
    qrnn_deploy::tensorrt::log(Severity::kINFO, "dropped");
    std::printf("%d failures\n", trt_fakes::failures);
    return trt_fakes::failures == 0 ? 0 : 1;
}
