// The library that registers itself, in programs that have TensorRT in different ways.
//
//   qrnn_deploy_trt_register_test LIBRARY {global | private | path | other}
//
//   global    TensorRT's symbols are there for all
//   private   a library opened TensorRT for itself, as Triton's backend does
//   path      TensorRT is not loaded yet, and in the library path, as under LD_PRELOAD
//   other     TensorRT is of another major version
//
// libnvinfer, found through the library path, is the one of trt_fake_nvinfer.cc.
#include <dlfcn.h>

#include "trt_fake_nvinfer.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

namespace {

using namespace trt_fakes;

constexpr char kNvinfer[] = "libnvinfer.so." STRING(NV_TENSORRT_MAJOR);

void* open(const char* name, int mode) {
    void* library = dlopen(name, mode);
    CHECK(library != nullptr, "%s", dlerror());
    return library;
}

FakeNvinfer* state_of(void* nvinfer) {
    const auto state =
        reinterpret_cast<FakeNvinferFunction>(nvinfer ? dlsym(nvinfer, "fake_nvinfer") : nullptr);
    CHECK(state != nullptr, "not the test's own %s", kNvinfer);
    return state == nullptr ? nullptr : &state();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::string mode = argv[2];
    FakeNvinfer* nvinfer = nullptr;
    if (mode != "path") {
        nvinfer =
            state_of(open(kNvinfer, RTLD_NOW | (mode == "private" ? RTLD_LOCAL : RTLD_GLOBAL)));
        if (nvinfer == nullptr) return 1;
        nvinfer->taken = "QRNNPoolIF";
        if (mode == "other") ++nvinfer->major;
    }
    void* library = open(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (nvinfer == nullptr) nvinfer = state_of(open(kNvinfer, RTLD_NOW | RTLD_NOLOAD));
    if (library == nullptr || nvinfer == nullptr) return 1;
    const std::string& registered = nvinfer->registered;
    if (mode == "other") {
        CHECK(registered.empty(), "registered %s", registered.c_str());
        CHECK(nvinfer->logger.told("no plugin is registered: this process has TensorRT " +
                                   std::to_string(nvinfer->major)),
              "another major");
    } else {
        CHECK(registered ==
                  "qrnn_deploy::QRNNPoolF qrnn_deploy::QRNNPoolFO "
                  "qrnn_deploy::QRNNPoolIFO qrnn_deploy::QRNNPoolIF "
                  "qrnn_deploy::SRUPool qrnn_deploy::SRUPoolInput qrnn_deploy::SRUPoolNoSkip ",
              "registered %s", registered.c_str());
        if (mode == "path") {
            CHECK(nvinfer->logger.quiet(), "%s", nvinfer->logger.errors.c_str());
        } else {
            CHECK(nvinfer->logger.told("QRNNPoolIF: TensorRT did not register the plugin"), "told");
        }
    }
    // The registry keeps pointers to the creators, so closing must not unload them.
    dlclose(library);
    CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != nullptr, "the library was unloaded");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
