#include "tensors.h"

#include <algorithm>
#include <sstream>

namespace qrnn_deploy::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

constexpr const char* kSignatures[kInputs] = {"gates [T, B, G*H]", "c0 [B, H]", "lengths [B]"};
constexpr int32_t kRanks[kInputs] = {3, 2, 1};

}  // namespace

bool is_storage(DataType type) {
    return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

qrnn::Storage storage_of(DataType storage_type) {
    if (storage_type == DataType::kHALF) return qrnn::Storage::kFloat16;
    return storage_type == DataType::kBF16 ? qrnn::Storage::kBFloat16 : qrnn::Storage::kFloat32;
}

bool type_fits(int32_t place, DataType type, DataType gates_type) {
    switch (place) {
        case kGates: return is_storage(type);
        case kH: return is_storage(type) && type == gates_type;
        case kLengths: return type == DataType::kINT64;
        case kC0:
        case kCT: return type == DataType::kFLOAT;
    }
    return false;
}

std::string check_counts(int32_t inputs, int32_t outputs) {
    if (inputs == kInputs && outputs == kOutputs) return "";
    std::ostringstream text;
    text << "has " << inputs << " inputs and " << outputs
         << " outputs, expected gates, c0, lengths and h, c_T";
    return text.str();
}

std::string check_input_types(const DataType* inputs) {
    if (!is_storage(inputs[kGates])) {
        return "the type of input gates is not supported, expected float32, float16 or bfloat16";
    }
    if (inputs[kC0] != DataType::kFLOAT) {
        return "input c0 is not float32, expected float32 whatever the type of gates is";
    }
    if (inputs[kLengths] != DataType::kINT64) return "input lengths is not int64, expected int64";
    return "";
}

std::string check_rank(int32_t input, int32_t rank) {
    if (rank == kRanks[input]) return "";
    std::ostringstream text;
    text << "input " << kSignatures[input] << " has " << rank << " dimensions, expected "
         << kRanks[input];
    return text.str();
}

std::string check_columns(qrnn::Pooling pooling, int64_t columns, int64_t hidden) {
    const int64_t gate_count = qrnn::gate_count(pooling);
    if (columns % gate_count == 0 && columns / gate_count == hidden) return "";
    std::ostringstream text;
    text << "gates has " << columns << " columns, expected " << gate_count
         << " times the hidden size " << hidden << " of c0";
    return text.str();
}

std::string check_shapes(qrnn::Pooling pooling, const nvinfer1::PluginTensorDesc* inputs) {
    for (int32_t i = 0; i < kInputs; ++i) {
        const std::string error = check_rank(i, inputs[i].dims.nbDims);
        if (!error.empty()) return error;
        if (!is_known(inputs[i].dims)) {
            return std::string("a size of input ") + kSignatures[i] + " is not known";
        }
    }
    const int64_t batch = inputs[kGates].dims.d[1];
    const int64_t batch_c0 = inputs[kC0].dims.d[0], batch_lengths = inputs[kLengths].dims.d[0];
    if (batch_c0 != batch || batch_lengths != batch) {
        std::ostringstream text;
        text << "gates has batch size " << batch << ", c0 " << batch_c0 << " and lengths "
             << batch_lengths << ", expected one B for all";
        return text.str();
    }
    return check_columns(pooling, inputs[kGates].dims.d[2], inputs[kC0].dims.d[1]);
}

bool is_known(const Dims& dims) {
    return dims.nbDims >= 0 &&
           std::all_of(dims.d, dims.d + dims.nbDims, [](int64_t size) { return size >= 0; });
}

}  // namespace qrnn_deploy::tensorrt
