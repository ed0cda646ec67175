#include "fake_ort.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

namespace {

std::atomic<int64_t> live{0};
uint32_t newest_version = ORT_API_VERSION;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "the glue misused the runtime: %s\n", what);
    std::abort();
}

OrtStatus* make_status(OrtErrorCode code, const char* message) noexcept {
    ++live;
    return new OrtStatus{code, message};
}

template <class Value>
OrtStatus* attribute(const OrtKernelInfo* info, const char* name, Value* out) {
    const auto found = info->attributes.find(name);
    if (found == info->attributes.end()) return make_status(ORT_FAIL, "no such attribute");
    const Value* value = std::get_if<Value>(&found->second);
    if (value == nullptr) return make_status(ORT_FAIL, "attribute of another type");
    *out = *value;
    return nullptr;
}

OrtStatus* copy_text(const std::string& text, char* out, size_t* size) {
    const size_t needed = text.size() + 1;
    if (out == nullptr) {
        *size = needed;
        return nullptr;
    }
    if (*size < needed) return make_status(ORT_INVALID_ARGUMENT, "buffer too small");
    std::memcpy(out, text.c_str(), needed);
    *size = needed;
    return nullptr;
}

OrtApi make_api() {
    OrtApi api{};
    api.CreateStatus = make_status;
    api.ReleaseStatus = [](OrtStatus* status) noexcept {
        if (status != nullptr) --live;
        delete status;
    };
    api.GetErrorCode = [](const OrtStatus* status) noexcept { return status->code; };
    api.GetErrorMessage = [](const OrtStatus* status) noexcept { return status->message.c_str(); };

    api.KernelInfoGetAttribute_int64 = [](const OrtKernelInfo* info, const char* name,
                                          int64_t* out) noexcept {
        return attribute(info, name, out);
    };
    api.KernelInfoGetAttribute_float = [](const OrtKernelInfo* info, const char* name,
                                          float* out) noexcept {
        return attribute(info, name, out);
    };
    api.KernelInfoGetAttribute_string = [](const OrtKernelInfo* info, const char* name, char* out,
                                           size_t* size) noexcept {
        std::string text;
        OrtStatus* status = attribute(info, name, &text);
        return status != nullptr ? status : copy_text(text, out, size);
    };
    api.KernelInfo_GetNodeName = [](const OrtKernelInfo* info, char* out, size_t* size) noexcept {
        return copy_text(info->node_name, out, size);
    };

    api.KernelContext_GetInput = [](const OrtKernelContext* context, size_t index,
                                    const OrtValue** out) noexcept -> OrtStatus* {
        require(index < context->inputs.size(), "input index");
        *out = context->inputs[index];
        return nullptr;
    };
    api.KernelContext_GetOutput = [](OrtKernelContext* context, size_t index,
                                     const int64_t* dimensions, size_t count,
                                     OrtValue** out) noexcept -> OrtStatus* {
        require(index < context->outputs.size(), "output index");
        OrtValue& value = context->outputs[index];
        value.info.dimensions.assign(dimensions, dimensions + count);
        int64_t items = 1;
        for (int64_t dimension : value.info.dimensions) {
            require(dimension >= 0, "negative output dimension");
            items = dimension == 0 ? 0 : items * dimension;
        }
        require(items * fake_ort::element_size(value.info.element) == context->output_bytes[index],
                "output size");
        context->output_asked[index] = true;
        *out = &value;
        return nullptr;
    };
    api.KernelContext_GetGPUComputeStream = [](const OrtKernelContext* context,
                                               void** out) noexcept -> OrtStatus* {
        *out = context->stream;
        return nullptr;
    };
    api.KernelInfoGetAllocator = [](const OrtKernelInfo* info, OrtMemType type,
                                    OrtAllocator** out) noexcept -> OrtStatus* {
        require(type == OrtMemTypeDefault, "memory type of the allocator");
        if (info->arena == nullptr) {
            return make_status(ORT_INVALID_ARGUMENT, "No requested allocator available");
        }
        ++live;
        *out = info->arena;
        return nullptr;
    };
    api.ReleaseAllocator = [](OrtAllocator* allocator) noexcept {
        if (allocator != nullptr) --live;
    };
    api.AllocatorGetInfo = [](const OrtAllocator* allocator,
                              const OrtMemoryInfo** out) noexcept -> OrtStatus* {
        *out = &static_cast<const FakeArena*>(allocator)->memory;
        return nullptr;
    };
    api.MemoryInfoGetId = [](const OrtMemoryInfo* info, int* out) noexcept -> OrtStatus* {
        *out = info->device_id;
        return nullptr;
    };
    api.KernelContext_GetScratchBuffer = [](const OrtKernelContext* const_context,
                                            const OrtMemoryInfo* info, size_t size,
                                            void** out) noexcept -> OrtStatus* {
        auto* context = const_cast<OrtKernelContext*>(const_context);
        require(context->arena != nullptr && info == &context->arena->memory, "scratch's memory");
        // ONNX Runtime follows the context's stream without looking whether there is one.
        require(context->stream != nullptr, "scratch memory without a stream");
        context->scratch_taken.push_back(size);
        if (context->no_scratch) return make_status(ORT_FAIL, "no memory");
        ++live;
        *out = std::malloc(size);
        return nullptr;
    };
    api.AllocatorFree = [](OrtAllocator*, void* memory) noexcept -> OrtStatus* {
        --live;
        std::free(memory);
        return nullptr;
    };
    api.GetTensorTypeAndShape = [](const OrtValue* value,
                                   OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
        ++live;
        *out = new OrtTensorTypeAndShapeInfo(value->info);
        return nullptr;
    };
    api.CreateTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
        ++live;
        *out = new OrtTensorTypeAndShapeInfo();
        return nullptr;
    };
    api.ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo* info) noexcept {
        if (info != nullptr) --live;
        delete info;
    };
    api.GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info,
                                size_t* out) noexcept -> OrtStatus* {
        *out = info->dimensions.size();
        return nullptr;
    };
    api.GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, int64_t* out,
                           size_t count) noexcept -> OrtStatus* {
        require(count <= info->dimensions.size(), "dimension count");
        std::copy_n(info->dimensions.begin(), count, out);
        return nullptr;
    };
    api.GetSymbolicDimensions = [](const OrtTensorTypeAndShapeInfo* info, const char** out,
                                   size_t count) noexcept -> OrtStatus* {
        require(count <= info->names.size(), "name count");
        for (size_t i = 0; i < count; ++i) out[i] = info->names[i].c_str();
        return nullptr;
    };
    api.GetTensorElementType = [](const OrtTensorTypeAndShapeInfo* info,
                                  ONNXTensorElementDataType* out) noexcept -> OrtStatus* {
        *out = info->element;
        return nullptr;
    };
    api.SetTensorElementType = [](OrtTensorTypeAndShapeInfo* info,
                                  ONNXTensorElementDataType element) noexcept -> OrtStatus* {
        info->element = element;
        return nullptr;
    };
    api.SetDimensions = [](OrtTensorTypeAndShapeInfo* info, const int64_t* dimensions,
                           size_t count) noexcept -> OrtStatus* {
        info->dimensions.assign(dimensions, dimensions + count);
        return nullptr;
    };
    api.SetSymbolicDimensions = [](OrtTensorTypeAndShapeInfo* info, const char** names,
                                   size_t count) noexcept -> OrtStatus* {
        info->names.assign(names, names + count);
        return nullptr;
    };
    api.GetTensorMutableData = [](OrtValue* value, void** out) noexcept -> OrtStatus* {
        *out = value->data;
        return nullptr;
    };

    api.ShapeInferContext_GetInputTypeShape =
        [](const OrtShapeInferContext* context, size_t index,
           OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
        require(index < context->inputs.size(), "inferred input index");
        *out = const_cast<OrtTensorTypeAndShapeInfo*>(&context->inputs[index]);
        return nullptr;
    };
    api.ShapeInferContext_SetOutputTypeShape =
        [](const OrtShapeInferContext* context, size_t index,
           const OrtTensorTypeAndShapeInfo* info) noexcept -> OrtStatus* {
        require(index < context->outputs.size(), "inferred output index");
        const_cast<OrtShapeInferContext*>(context)->outputs[index] = *info;
        return nullptr;
    };

    // The parts in any order, on two threads.
    api.KernelContext_ParallelFor = [](const OrtKernelContext* context, void (*fn)(void*, size_t),
                                       size_t total, size_t,
                                       void* user_data) noexcept -> OrtStatus* {
        const_cast<OrtKernelContext*>(context)->parallel_parts = total;
        std::vector<size_t> order(total);
        std::iota(order.begin(), order.end(), size_t{0});
        std::shuffle(order.begin(), order.end(), std::mt19937_64(context->order));
        const auto run = [&](size_t begin) {
            for (size_t i = begin; i < total; i += 2) fn(user_data, order[i]);
        };
        std::thread other(run, 1);
        run(0);
        other.join();
        return nullptr;
    };

    api.CreateCustomOpDomain = [](const char* name,
                                  OrtCustomOpDomain** out) noexcept -> OrtStatus* {
        *out = new OrtCustomOpDomain{name, {}};
        return nullptr;
    };
    api.ReleaseCustomOpDomain = [](OrtCustomOpDomain* domain) noexcept { delete domain; };
    api.CustomOpDomain_Add = [](OrtCustomOpDomain* domain,
                                const OrtCustomOp* op) noexcept -> OrtStatus* {
        domain->ops.push_back(op);
        return nullptr;
    };
    api.AddCustomOpDomain = [](OrtSessionOptions* options,
                               OrtCustomOpDomain* domain) noexcept -> OrtStatus* {
        options->domains.push_back(domain);
        return nullptr;
    };
    return api;
}

}  // namespace

namespace fake_ort {

const OrtApiBase* api_base(uint32_t newest) {
    newest_version = newest;
    static const OrtApi api = make_api();
    static const OrtApiBase base = {
        [](uint32_t version) noexcept { return version <= newest_version ? &api : nullptr; },
        []() noexcept { return "1.0.fake"; }};
    return &base;
}

size_t element_size(ONNXTensorElementDataType element) {
    switch (element) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return 4;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return 8;
        default: return 2;
    }
}

int64_t live_objects() { return live; }

}  // namespace fake_ort
