#include "trt_fake_nvinfer.h"

#include <cstdlib>

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED FakeNvinfer& fake_nvinfer() {
    static FakeNvinfer state;
    return state;
}

namespace {

using nvinfer1::IPluginCreatorInterface;
using nvinfer1::IPluginCreatorV3One;

// Keeps the creators that the registry of TensorRT would keep. What the library may not call ends
// the program.
class Registry final : public nvinfer1::IPluginRegistry {
  public:
    bool registerCreator(IPluginCreatorInterface& creator, const char* space) noexcept override {
        const auto* one = static_cast<IPluginCreatorV3One*>(&creator);
        fake_nvinfer().registered += std::string(space) + "::" + one->getPluginName() + " ";
        return fake_nvinfer().taken != one->getPluginName();
    }

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

}  // namespace

EXPORTED nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
    static Registry registry;
    return &registry;
}
EXPORTED nvinfer1::ILogger* getLogger() noexcept { return &fake_nvinfer().logger; }
EXPORTED int32_t getInferLibMajorVersion() noexcept { return fake_nvinfer().major; }
