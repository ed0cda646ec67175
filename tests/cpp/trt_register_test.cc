// The library that registers itself, loaded by a program that has the three functions of
// TensorRT that it looks for.
//
//   qrnn_deploy_trt_register_test LIBRARY {same | other}
//
// `same`: this program's TensorRT is of the library's major; `other`: it is of another one.
#include <dlfcn.h>

#include <cstdlib>

#include "trt_fakes.h"

namespace {

using namespace trt_fakes;
using nvinfer1::IPluginCreatorInterface;
using nvinfer1::IPluginCreatorV3One;

Logger logger;
int32_t major = 0;

// Keeps the creators that the registry of TensorRT would keep. What the library may not call ends
// the program.
class Registry final : public nvinfer1::IPluginRegistry {
  public:
    bool registerCreator(IPluginCreatorInterface& creator, const char* space) noexcept override {
        const auto* one = static_cast<IPluginCreatorV3One*>(&creator);
        names += std::string(space) + "::" + one->getPluginName() + " ";
        return full != one->getPluginName();
    }
    std::string names;
    std::string full;  // the name for which there is a plugin already

#if NV_TENSORRT_MAJOR < 11
    bool registerCreator(nvinfer1::IPluginCreator&, const char*) noexcept override { std::abort(); }
    nvinfer1::IPluginCreator* const* getPluginCreatorList(int32_t*) const noexcept override {
        std::abort();
    }
    nvinfer1::IPluginCreator* getPluginCreator(const char*, const char*,
                                               const char*) noexcept override {
        std::abort();
    }
    bool deregisterCreator(const nvinfer1::IPluginCreator&) noexcept override { std::abort(); }
#endif
    void setErrorRecorder(nvinfer1::IErrorRecorder*) noexcept override { std::abort(); }
    nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { std::abort(); }
    bool isParentSearchEnabled() const override { std::abort(); }
    void setParentSearchEnabled(bool) override { std::abort(); }
    PluginLibraryHandle loadLibrary(const char*) noexcept override { std::abort(); }
    void deregisterLibrary(PluginLibraryHandle) noexcept override { std::abort(); }
    IPluginCreatorInterface* const* getAllCreators(int32_t*) const noexcept override {
        std::abort();
    }
    IPluginCreatorInterface* getCreator(const char*, const char*, const char*) noexcept override {
        std::abort();
    }
    bool deregisterCreator(const IPluginCreatorInterface&) noexcept override { std::abort(); }
    nvinfer1::IPluginResource* acquirePluginResource(const char*,
                                                     nvinfer1::IPluginResource*) noexcept override {
        std::abort();
    }
    int32_t releasePluginResource(const char*) noexcept override { std::abort(); }
    IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t*) noexcept override {
        std::abort();
    }
};

Registry registry;

}  // namespace

extern "C" {

__attribute__((visibility("default"))) nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
    return &registry;
}
__attribute__((visibility("default"))) nvinfer1::ILogger* getLogger() noexcept { return &logger; }
__attribute__((visibility("default"))) int32_t getInferLibMajorVersion() noexcept { return major; }

}  // extern "C"

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const bool same = std::string(argv[2]) == "same";
    major = same ? NV_TENSORRT_MAJOR : NV_TENSORRT_MAJOR + 1;
    registry.full = "QRNNPoolIF";
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::printf("FAILED dlopen: %s\n", dlerror());
        return 1;
    }
    if (same) {
        CHECK(registry.names ==
                  "qrnn_deploy::QRNNPoolF qrnn_deploy::QRNNPoolFO qrnn_deploy::QRNNPoolIFO "
                  "qrnn_deploy::QRNNPoolIF ",
              "registered %s", registry.names.c_str());
        CHECK(logger.told("QRNNPoolIF: TensorRT did not register the plugin"), "one is there");
    } else {
        CHECK(registry.names.empty(), "registered %s", registry.names.c_str());
        CHECK(logger.told("no plugin is registered: this process has TensorRT " +
                          std::to_string(major)),
              "another major");
    }
    // The registry keeps pointers to the creators, so closing must not unload them.
    dlclose(library);
    CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != nullptr, "the library was unloaded");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
