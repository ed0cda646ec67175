// What TensorRT hands to a plugin when it builds and when it runs, and the GPU of the tests' own.
#ifndef QRNN_DEPLOY_TESTS_TRT_TENSORS_H_
#define QRNN_DEPLOY_TESTS_TRT_TENSORS_H_

#include <array>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "fake_gpu.h"
#include "trt_plugins.h"

namespace trt_tensors {

using namespace trt_plugins;
using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

inline constexpr DataType kStorages[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};
inline qrnn::Storage storage_of(DataType type) {
    if (type == DataType::kFLOAT) return qrnn::Storage::kFloat32;
    return type == DataType::kHALF ? qrnn::Storage::kFloat16 : qrnn::Storage::kBFloat16;
}

// The right types at each place: inputs, h, c_T.
inline std::vector<DataType> types_of(const Op& op, DataType storage) {
    std::vector<DataType> types = {storage, DataType::kFLOAT, DataType::kINT64};
    if (op.inputs >= 5) types.insert(types.end(), 2, DataType::kFLOAT);
    if (op.inputs == 6) types.push_back(storage);
    types.insert(types.end(), {storage, DataType::kFLOAT});
    return types;
}

inline const Op& op_of(const std::string& name) {
    for (const Op& op : kOps) {
        if (op.name == name) return op;
    }
    std::abort();
}

inline constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();

// The GPU core's answers, anew for each test.
inline fake_gpu::State& fresh_gpu() { return fake_gpu::state() = fake_gpu::State(); }

inline std::string serialized(IPluginV3* plugin) {
    const Parts parts(plugin->clone());
    const PluginFieldCollection* fields = parts.runtime->getFieldsToSerialize();
    std::string all;
    for (int32_t i = 0; i < fields->nbFields; ++i) {
        const PluginField& field = fields->fields[i];
        const int32_t size = field.type == PluginFieldType::kCHAR ? 1 : 4;
        all += std::string(field.name) + "=";
        all.append(static_cast<const char*>(field.data), size * field.length);
        all += ";";
    }
    return all;
}

struct Tensors {
    std::array<DynamicPluginTensorDesc, 6> in = {};
    std::array<DynamicPluginTensorDesc, 2> out = {};

    // `sizes` as TensorRT knows them when it builds, -1 where they vary; `T` and `B` the largest.
    Tensors(DataType type, int64_t T, int64_t B, int64_t H, int64_t G, bool fixed_H = true) {
        const int64_t h = fixed_H ? H : -1;
        in[0].desc = tensor({-1, -1, fixed_H ? G * H : -1}, type);
        in[1].desc = tensor({-1, h}, DataType::kFLOAT);
        in[2].desc = tensor({-1}, DataType::kINT64);
        in[3].desc = in[4].desc = tensor({2, h}, DataType::kFLOAT);
        in[5].desc = tensor({-1, -1, h}, type);
        out[0].desc = tensor({-1, -1, h}, type);
        out[1].desc = tensor({-1, h}, DataType::kFLOAT);
        in[0].max = dims({T, B, G * H});
        in[1].max = dims({B, H});
        in[2].max = dims({B});
        in[3].max = in[4].max = dims({2, H});
        in[5].max = dims({T, B, H});
    }
};

inline const cudaStream_t kStream = reinterpret_cast<cudaStream_t>(uintptr_t{0x51});

// What TensorRT passes to enqueue; an operator of three inputs does not look at the others.
struct Run {
    std::array<PluginTensorDesc, 6> in;
    std::array<PluginTensorDesc, 2> out;
    std::array<char, 80> memory = {};
    std::array<const void*, 6> inputs = {&memory[0],  &memory[8],  &memory[16],
                                         &memory[24], &memory[32], &memory[40]};
    std::array<void*, 2> outputs = {&memory[48], &memory[56]};
    void* workspace = &memory[64];
    int32_t count;

    Run(DataType type, int64_t T, int64_t B, int64_t H, int64_t G, int32_t input_count = 3)
        : in{tensor({T, B, G * H}, type),      tensor({B, H}, DataType::kFLOAT),
             tensor({B}, DataType::kINT64),    tensor({2, H}, DataType::kFLOAT),
             tensor({2, H}, DataType::kFLOAT), tensor({T, B, H}, type)},
          out{tensor({T, B, H}, type), tensor({B, H}, DataType::kFLOAT)},
          count(input_count) {}

    bool shape_change(const Parts& parts) {
        return parts.runtime->onShapeChange(in.data(), count, out.data(), 2) == 0;
    }
    bool enqueue(const Parts& parts) {
        return parts.runtime->enqueue(in.data(), out.data(), inputs.data(), outputs.data(),
                                      workspace, kStream) == 0;
    }
};

}  // namespace trt_tensors

#endif  // QRNN_DEPLOY_TESTS_TRT_TENSORS_H_
