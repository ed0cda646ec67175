// A runtime of the tests: the part of ONNX Runtime's C API that the glue calls, in memory that the
// sanitizers watch. It checks how it is called, and aborts where a call is wrong.
#ifndef QRNN_DEPLOY_TESTS_FAKE_ORT_H_
#define QRNN_DEPLOY_TESTS_FAKE_ORT_H_

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

struct OrtStatus {
    OrtErrorCode code;
    std::string message;
};

struct OrtTensorTypeAndShapeInfo {
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::vector<int64_t> dimensions;
    std::vector<std::string> names;
};

struct OrtValue {
    OrtTensorTypeAndShapeInfo info;
    void* data = nullptr;
};

struct OrtMemoryInfo {
    int device_id = 0;
};

// The arena of a device. Scratch memory comes from it and goes back to it.
struct FakeArena : OrtAllocator {
    explicit FakeArena(int device_id) : OrtAllocator{}, memory{device_id} {}
    OrtMemoryInfo memory;
};

struct OrtKernelInfo {
    std::string node_name;
    std::map<std::string, std::variant<int64_t, float, std::string>> attributes;
    FakeArena* arena = nullptr;  // of the provider's device; null on the CPU
};

struct OrtKernelContext {
    std::vector<OrtValue*> inputs;
    std::vector<OrtValue> outputs;     // data is filled in by the test, sized exactly
    std::vector<size_t> output_bytes;  // what each output's data can hold
    std::vector<bool> output_asked;
    uint64_t order = 0;  // how ParallelFor mixes its parts
    size_t parallel_parts = 0;
    FakeArena* arena = nullptr;
    void* stream = nullptr;
    std::vector<size_t> scratch_taken;  // sizes of the scratch memory that was asked for
    bool no_scratch = false;            // as if the device's memory were full
};

struct OrtShapeInferContext {
    std::vector<OrtTensorTypeAndShapeInfo> inputs;
    std::vector<std::optional<OrtTensorTypeAndShapeInfo>> outputs;
};

struct OrtCustomOpDomain {
    std::string name;
    std::vector<const OrtCustomOp*> ops;
};

struct OrtSessionOptions {
    std::vector<OrtCustomOpDomain*> domains;
};

namespace fake_ort {

// `newest` is the newest API version that this runtime claims to know.
const OrtApiBase* api_base(uint32_t newest = ORT_API_VERSION);
size_t element_size(ONNXTensorElementDataType element);
int64_t live_objects();  // statuses, infos, allocators, scratch memory that were not released

}  // namespace fake_ort

#endif  // QRNN_DEPLOY_TESTS_FAKE_ORT_H_
