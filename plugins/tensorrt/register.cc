// Registers the creators when the library is loaded, for programs that load plugin libraries with
// dlopen and do no more, as Triton's TensorRT backend and LD_PRELOAD do. The registry's table of
// functions differs between majors of TensorRT, hence one library for each major.
//
// The library names no symbol of TensorRT, so that it can be loaded anywhere. It looks for the
// TensorRT that the process uses: among the global symbols, then by the name of libnvinfer, which
// finds a copy that was loaded privately, and loads one if the process has none yet.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <exception>
#include <string>

#include "log.h"
#include "pool_creator.h"

#define QRNN_DEPLOY_STRING_OF(x) #x
#define QRNN_DEPLOY_STRING(x) QRNN_DEPLOY_STRING_OF(x)

namespace qrnn_deploy::tensorrt {
namespace {

constexpr char kMajor[] = QRNN_DEPLOY_STRING(NV_TENSORRT_MAJOR);

struct TensorRT {
    nvinfer1::IPluginRegistry* (*plugin_registry)();
    nvinfer1::ILogger* (*logger)();
    int32_t (*major)();

    explicit TensorRT(void* library) {
        // POSIX lets a function's address come as a void*.
        plugin_registry =
            reinterpret_cast<decltype(plugin_registry)>(dlsym(library, "getPluginRegistry"));
        logger = reinterpret_cast<decltype(logger)>(dlsym(library, "getLogger"));
        major = reinterpret_cast<decltype(major)>(dlsym(library, "getInferLibMajorVersion"));
    }
    bool complete() const {
        return plugin_registry != nullptr && logger != nullptr && major != nullptr;
    }
};

// Gives TensorRT's global logger. Never freed, as the creators are not.
class GlobalLogger final : public nvinfer1::ILoggerFinder {
  public:
    explicit GlobalLogger(nvinfer1::ILogger* (*logger)()) : logger_(logger) {}
    nvinfer1::ILogger* findLogger() override { return logger_(); }

  private:
    nvinfer1::ILogger* (*logger_)();
};

TensorRT find_tensorrt() {
    const TensorRT global(RTLD_DEFAULT);
    if (global.complete()) return global;
    const std::string name = std::string("libnvinfer.so.") + kMajor;
    void* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
    return library == nullptr ? global : TensorRT(library);
}

void register_creators() {
    const TensorRT tensorrt = find_tensorrt();
    if (!tensorrt.complete()) {
        log(Severity::kERROR, std::string("no plugin is registered: this process has no TensorRT, "
                                          "expected libnvinfer.so.") +
                                  kMajor + " loaded or in the library path");
        return;
    }
    set_logger_finder(new GlobalLogger(tensorrt.logger));
    if (tensorrt.major() != NV_TENSORRT_MAJOR) {
        log(Severity::kERROR, "no plugin is registered: this process has TensorRT " +
                                  std::to_string(tensorrt.major()) + ", expected " + kMajor +
                                  ": use the libqrnn_deploy_tensorrt_register_* of its major");
        return;
    }
    nvinfer1::IPluginRegistry* registry = tensorrt.plugin_registry();
    if (registry == nullptr) {
        log(Severity::kERROR, "no plugin is registered: TensorRT has no plugin registry");
        return;
    }
    for (nvinfer1::IPluginCreatorInterface* creator : creators()) {
        if (registry->registerCreator(*creator, kNamespace)) continue;
        log(Severity::kWARNING,
            std::string(static_cast<PoolCreator*>(creator)->getPluginName()) +
                ": TensorRT did not register the plugin, it may have one of that name already");
    }
}

__attribute__((constructor)) void on_load() {
    try {
        register_creators();
    } catch (const std::exception& error) {
        log(Severity::kERROR, error.what());
    }
}

}  // namespace
}  // namespace qrnn_deploy::tensorrt
