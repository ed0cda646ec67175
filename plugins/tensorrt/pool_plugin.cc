#include "pool_plugin.h"

#include <algorithm>
#include <exception>
#include <new>
#include <sstream>
#include <utility>

#include "log.h"

namespace qrnn_deploy::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IDimensionExpr;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;
using qrnn::kBias;
using qrnn::kC0;
using qrnn::kGates;
using qrnn::kSkip;
using qrnn::kWeightC;

}  // namespace

PoolPlugin* PoolPlugin::create(const char* op_type, qrnn::Pooling pooling, const char* layer_name,
                               const nvinfer1::PluginFieldCollection* collection,
                               TensorRTPhase phase) noexcept {
    try {
        const std::string where =
            std::string(op_type) + " '" + (layer_name == nullptr ? "" : layer_name) + "'";
        PoolFields fields;
        fields.attributes = qrnn::default_attributes(pooling);
        qrnn::PoolArguments arguments;
        arguments.pooling = pooling;
        std::string error = read_fields(collection, phase, fields);
        if (error.empty()) {
            error = qrnn::apply_attributes(fields.attributes, arguments);
            if (!error.empty()) error = "field " + error;
        }
        if (!error.empty()) {
            log(Severity::kERROR, where + ": " + error);
            return nullptr;
        }
        PoolPlugin* plugin = new PoolPlugin(op_type, where, fields, arguments, phase);
        log(Severity::kVERBOSE, where + ": created, " + plugin->description_);
        return plugin;
    } catch (const std::exception& error) {
        log(Severity::kERROR, error.what());
        return nullptr;
    }
}

PoolPlugin::PoolPlugin(const char* op_type, std::string where, const PoolFields& fields,
                       const qrnn::PoolArguments& arguments, TensorRTPhase phase)
    : op_type_(op_type),
      where_(std::move(where)),
      fields_(fields),
      arguments_(arguments),
      phase_(phase) {
    std::ostringstream text;
    text << op_type << " direction=" << (arguments.reverse ? -1 : 1)
         << " activation=" << qrnn::activation_name(arguments.activation);
    if (!qrnn::is_sru(arguments.pooling)) text << " zoneout_scale=" << arguments.zoneout_scale;
    description_ = text.str();
}

// The serialised fields of a copy are its own, made when they are asked for.
PoolPlugin::PoolPlugin(const PoolPlugin& other)
    : IPluginV3(),
      IPluginV3OneCore(),
      IPluginV3OneBuild(),
      IPluginV3OneRuntime(),
      op_type_(other.op_type_),
      where_(other.where_),
      description_(other.description_),
      fields_(other.fields_),
      arguments_(other.arguments_),
      phase_(other.phase_) {}

template <class Body>
bool PoolPlugin::succeeds(Body body) const noexcept {
    try {
        const std::string error = body();
        if (!error.empty()) log(Severity::kERROR, where_ + ": " + error);
        return error.empty();
    } catch (const std::exception& error) {
        log(Severity::kERROR, error.what());
        return false;
    }
}

nvinfer1::IPluginCapability* PoolPlugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE:
            return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD:
            return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* PoolPlugin::clone() noexcept {
    PoolPlugin* copy = nullptr;
    succeeds([&] {
        copy = new PoolPlugin(*this);
        return std::string();
    });
    return copy;
}

nvinfer1::IPluginV3* PoolPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();  // nothing of the context is needed
}

int32_t PoolPlugin::getOutputDataTypes(DataType* output_types, int32_t output_count,
                                       const DataType* input_types,
                                       int32_t input_count) const noexcept {
    const bool good = succeeds([&]() -> std::string {
        std::string error = check_counts(input_count, output_count);
        if (!error.empty()) return error;
        error = check_input_types(arguments_.pooling, input_types);
        if (!error.empty()) return error;
        output_types[0] = input_types[kGates];
        output_types[1] = DataType::kFLOAT;
        return "";
    });
    return good ? 0 : 1;
}

int32_t PoolPlugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs*,
                                    int32_t, DimsExprs* outputs, int32_t output_count,
                                    nvinfer1::IExprBuilder& builder) noexcept {
    const bool good = succeeds([&]() -> std::string {
        std::string error = check_counts(input_count, output_count);
        if (!error.empty()) return error;
        for (int32_t i = 0; i < input_count; ++i) {
            error = qrnn::check_rank(i, inputs[i].nbDims);
            if (!error.empty()) return error;
        }
        const IDimensionExpr* columns = inputs[kGates].d[2];
        const IDimensionExpr* hidden = inputs[kC0].d[1];
        if (columns->isConstant() && hidden->isConstant()) {
            error = qrnn::check_columns(arguments_.pooling, columns->getConstantValue(),
                                        hidden->getConstantValue());
            if (!error.empty()) return error;
        }
        const IDimensionExpr* width = builder.constant(qrnn::gate_count(arguments_.pooling));
        if (width != nullptr) {
            width = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *columns, *width);
        }
        if (width == nullptr) return "TensorRT cannot divide the columns of gates by their count";
        outputs[0].nbDims = 3;
        outputs[0].d[0] = inputs[kGates].d[0];
        outputs[0].d[1] = inputs[kGates].d[1];
        outputs[0].d[2] = width;
        outputs[1] = inputs[kC0];
        return "";
    });
    return good ? 0 : 1;
}

bool PoolPlugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                           int32_t input_count, int32_t output_count) noexcept {
    // Not an error: TensorRT asks for many combinations to find those that are supported. What
    // stands after `position` is not set.
    if (!check_counts(input_count, output_count).empty()) return false;
    if (position < 0 || position >= input_count + output_count) return false;
    const PluginTensorDesc& tensor = tensors[position].desc;
    return tensor.format == nvinfer1::TensorFormat::kLINEAR &&
           type_fits(arguments_.pooling, position, tensor.type, tensors[kGates].desc.type);
}

int32_t PoolPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                    const DynamicPluginTensorDesc*, int32_t output_count) noexcept {
    const bool good = succeeds([&]() -> std::string {
        std::string error = check_counts(input_count, output_count);
        if (!error.empty()) return error;
        for (int32_t i = 0; i < input_count; ++i) {
            error = qrnn::check_rank(i, inputs[i].desc.dims.nbDims);
            if (!error.empty()) return error;
        }
        // -1 where the size is known only at run time.
        const int64_t columns = inputs[kGates].desc.dims.d[2];
        const int64_t hidden = inputs[kC0].desc.dims.d[1];
        if (columns < 0 && hidden < 0) {
            return "the hidden size is dynamic, expected one that is fixed when the engine is "
                   "built: give c0 [B, H] or gates [T, B, G*H] a constant last dimension";
        }
        // The workspace follows from them.
        if (!is_known(inputs[kGates].max) || !is_known(inputs[kC0].max)) {
            return "the largest sizes of gates and c0 are not known, expected an optimization "
                   "profile that bounds them";
        }
        if (hidden < 0) return "";
        if (columns >= 0) error = qrnn::check_columns(arguments_.pooling, columns, hidden);
        for (int32_t i : {kWeightC, kBias}) {
            if (!error.empty() || !qrnn::is_sru(arguments_.pooling)) return error;
            const Dims& dims = inputs[i].desc.dims;
            if (is_known(dims)) error = qrnn::check_rows(i, dims.d[0], dims.d[1], hidden);
        }
        return error;
    });
    return good ? 0 : 1;
}

size_t PoolPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                    const DynamicPluginTensorDesc*, int32_t) const noexcept {
    if (input_count != qrnn::input_count(arguments_.pooling)) return 0;
    const Dims& gates = inputs[kGates].max;
    const Dims& c0 = inputs[kC0].max;
    qrnn::GpuDevice device = {};
    // configurePlugin has refused unknown sizes; without a GPU there is nothing to enqueue.
    if (!is_known(gates) || !is_known(c0)) return 0;
    if (qrnn::current_gpu(&device) != cudaSuccess) return 0;
    return qrnn::gpu_workspace_bound(arguments_for(inputs[kGates].desc.type, gates, c0), device);
}

int32_t PoolPlugin::onShapeChange(const PluginTensorDesc* inputs, int32_t input_count,
                                  const PluginTensorDesc*, int32_t output_count) noexcept {
    const bool good = succeeds([&]() -> std::string {
        std::string error = check_counts(input_count, output_count);
        if (!error.empty()) return error;
        return check_shapes(arguments_.pooling, inputs);
    });
    return good ? 0 : 1;
}

int32_t PoolPlugin::enqueue(const PluginTensorDesc* input_descs,
                            const PluginTensorDesc* output_descs, const void* const* inputs,
                            void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
    const bool good = succeeds([&]() -> std::string {
        if (input_descs == nullptr || output_descs == nullptr || inputs == nullptr ||
            outputs == nullptr) {
            return "descriptions or addresses of the tensors are missing";
        }
        std::string error = check_shapes(arguments_.pooling, input_descs);
        if (!error.empty()) return error;
        if (!is_storage(input_descs[kGates].type) ||
            output_descs[0].type != input_descs[kGates].type) {
            return "gates and h are not of one type, expected float32, float16 or bfloat16";
        }
        if (qrnn::reads_skip(arguments_.pooling) &&
            input_descs[kSkip].type != input_descs[kGates].type) {
            return "gates and skip are not of one type";
        }
        qrnn::PoolArguments a = arguments_for(input_descs[kGates].type, input_descs[kGates].dims,
                                              input_descs[kC0].dims);
        qrnn::set_inputs(inputs, a);
        a.h = outputs[0];
        a.c_T = outputs[1];
        const auto cuda_error = [](const char* what, cudaError_t status) {
            return std::string(what) + ": " + cudaGetErrorString(status) + " (" +
                   cudaGetErrorName(status) + ")";
        };
        qrnn::GpuDevice device = {};
        cudaError_t status = qrnn::current_gpu(&device);
        if (status != cudaSuccess) return cuda_error("the GPU cannot be used", status);
        // TensorRT does not say how much it reserved: at least what the largest shape of the
        // profile asked for, on the GPU that the engine was built on.
        size_t bytes = 0;
        if (workspace != nullptr && reserved_for(device)) {
            bytes = qrnn::gpu_workspace_bytes(a, device);
        }
        status = qrnn::pool_on_gpu(a, device, bytes == 0 ? nullptr : workspace, bytes, stream);
        return status == cudaSuccess ? "" : cuda_error("the kernel could not be started", status);
    });
    return good ? 0 : 1;
}

const nvinfer1::PluginFieldCollection* PoolPlugin::getFieldsToSerialize() noexcept {
    const nvinfer1::PluginFieldCollection* collection = nullptr;
    succeeds([&] {
        PoolFields fields = fields_;
        qrnn::GpuDevice device = {};
        if (phase_ == TensorRTPhase::kBUILD && qrnn::current_gpu(&device) == cudaSuccess) {
            fields.built_for = {device.multiprocessors, device.compute_capability};
        }
        collection = &serialized_.of(fields);
        return std::string();
    });
    return collection;
}

qrnn::PoolArguments PoolPlugin::arguments_for(DataType type, const Dims& gates,
                                              const Dims& c0) const {
    qrnn::PoolArguments arguments = arguments_;
    arguments.storage = storage_of(type);
    arguments.steps = gates.d[0];
    // Equal, save in the bounds of a profile.
    arguments.batch = std::max(gates.d[1], c0.d[0]);
    arguments.hidden = std::max(gates.d[2] / qrnn::gate_count(arguments.pooling), c0.d[1]);
    return arguments;
}

bool PoolPlugin::reserved_for(const qrnn::GpuDevice& device) const {
    return phase_ == TensorRTPhase::kBUILD ||
           (fields_.built_for.multiprocessors == device.multiprocessors &&
            fields_.built_for.compute_capability == device.compute_capability);
}

}  // namespace qrnn_deploy::tensorrt
