#include "tensors.h"

#include <algorithm>
#include <sstream>

namespace qrnn_deploy::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using qrnn::Element;
using qrnn::kNodeInputs;

}  // namespace

bool is_storage(DataType type) {
    return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

qrnn::Storage storage_of(DataType storage_type) {
    if (storage_type == DataType::kHALF) return qrnn::Storage::kFloat16;
    return storage_type == DataType::kBF16 ? qrnn::Storage::kBFloat16 : qrnn::Storage::kFloat32;
}

bool type_fits(qrnn::Pooling pooling, int32_t place, DataType type, DataType gates_type) {
    const int32_t inputs = qrnn::input_count(pooling);
    if (place < 0 || place >= inputs + kOutputs) return false;
    if (place == qrnn::kGates) return is_storage(type);
    Element element = place == inputs ? Element::kStorage : Element::kFloat32;  // h, c_T
    if (place < inputs) element = kNodeInputs[place].element;
    switch (element) {
        case Element::kStorage: return is_storage(type) && type == gates_type;
        case Element::kInt64: return type == DataType::kINT64;
        case Element::kFloat32: return type == DataType::kFLOAT;
    }
    return false;
}

std::string check_counts(qrnn::Pooling pooling, int32_t inputs, int32_t outputs) {
    if (inputs == qrnn::input_count(pooling) && outputs == kOutputs) return "";
    std::ostringstream text;
    text << "has " << inputs << " inputs and " << outputs << " outputs, expected "
         << qrnn::input_names(pooling) << " and h, c_T";
    return text.str();
}

std::string check_input_types(qrnn::Pooling pooling, const DataType* inputs) {
    for (int32_t i = 0; i < qrnn::input_count(pooling); ++i) {
        if (type_fits(pooling, i, inputs[i], inputs[qrnn::kGates])) continue;
        const std::string name = kNodeInputs[i].name;
        if (i == qrnn::kGates) {
            return "the type of input gates is not supported, expected float32, float16 or "
                   "bfloat16";
        }
        switch (kNodeInputs[i].element) {
            case Element::kStorage: return "input " + name + " is not of the type of gates";
            case Element::kInt64: return "input " + name + " is not int64, expected int64";
            case Element::kFloat32: break;
        }
        return "input " + name + " is not float32, expected float32 whatever the type of gates is";
    }
    return "";
}

std::string check_shapes(qrnn::Pooling pooling, const nvinfer1::PluginTensorDesc* inputs) {
    qrnn::NodeSizes sizes = {};
    for (int32_t i = 0; i < qrnn::input_count(pooling); ++i) {
        const Dims& dims = inputs[i].dims;
        const std::string error = qrnn::check_rank(i, dims.nbDims);
        if (!error.empty()) return error;
        if (!is_known(dims)) {
            return std::string("a size of input ") + kNodeInputs[i].signature + " is not known";
        }
        std::copy_n(dims.d, dims.nbDims, sizes[i].begin());
    }
    return qrnn::check_sizes(pooling, sizes);
}

bool is_known(const Dims& dims) {
    return dims.nbDims >= 0 &&
           std::all_of(dims.d, dims.d + dims.nbDims, [](int64_t size) { return size >= 0; });
}

}  // namespace qrnn_deploy::tensorrt
