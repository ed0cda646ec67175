// The contract of the TensorRT plugin, with a TensorRT and a GPU of the test's own: types, every
// format combination, shapes, workspace, enqueue, copies, and what an engine stores.
#include <array>
#include <cmath>
#include <limits>

#include "fake_gpu.h"
#include "gpu_plan.h"
#include "reference.h"
#include "trt_plugins.h"

namespace {

using namespace trt_plugins;
using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr DataType kStorages[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};
qrnn::Storage storage_of(DataType type) {
    if (type == DataType::kFLOAT) return qrnn::Storage::kFloat32;
    return type == DataType::kHALF ? qrnn::Storage::kFloat16 : qrnn::Storage::kBFloat16;
}

constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();

// The GPU core's answers, anew for each test.
fake_gpu::State& fresh_gpu() { return fake_gpu::state() = fake_gpu::State(); }

std::string serialized(IPluginV3* plugin) {
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

void test_output_types() {
    constexpr int32_t kTypes = nvinfer1::EnumMax<DataType>();
    const Parts parts(create("QRNNPoolFO", {}));
    int good = 0;
    for (int32_t gates = 0; gates < kTypes; ++gates) {
        for (int32_t c0 = 0; c0 < kTypes; ++c0) {
            for (int32_t lengths = 0; lengths < kTypes; ++lengths) {
                const DataType in[] = {DataType(gates), DataType(c0), DataType(lengths)};
                DataType out[] = {DataType::kBOOL, DataType::kBOOL};
                const bool stored = in[0] == DataType::kFLOAT || in[0] == DataType::kHALF ||
                                    in[0] == DataType::kBF16;
                const bool expected =
                    stored && in[1] == DataType::kFLOAT && in[2] == DataType::kINT64;
                const bool got = parts.build->getOutputDataTypes(out, 2, in, 3) == 0;
                CHECK(got == expected, "types %d %d %d", gates, c0, lengths);
                CHECK(got || logger.told("the_layer"), "types %d %d %d", gates, c0, lengths);
                CHECK(!got || (out[0] == in[0] && out[1] == DataType::kFLOAT), "types %d", gates);
                good += got;
            }
        }
    }
    CHECK(good == 3, "%d combinations", good);
    DataType out[2];
    const DataType in[] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kINT64};
    CHECK(parts.build->getOutputDataTypes(out, 2, in, 2) != 0, "two inputs");
    CHECK(logger.told("has 2 inputs and 2 outputs, expected gates, c0, lengths"), "two inputs");
}

// All types and formats at each place, after all types that can stand before it.
void test_format_combinations() {
    constexpr int32_t kTypes = nvinfer1::EnumMax<DataType>();
    constexpr int32_t kFormats = nvinfer1::EnumMax<TensorFormat>();
    const Parts parts(create("QRNNPoolIFO", {}));
    for (DataType storage : kStorages) {
        const DataType right[] = {storage, DataType::kFLOAT, DataType::kINT64, storage,
                                  DataType::kFLOAT};
        for (int32_t place = 0; place < 5; ++place) {
            std::array<DynamicPluginTensorDesc, 5> tensors = {};
            for (int32_t i = 0; i < 5; ++i) {
                tensors[i].desc.type = right[i];
                // What follows is not set yet, and must not matter.
                if (i > place) tensors[i].desc.type = DataType::kBOOL;
                if (i > place) tensors[i].desc.format = TensorFormat::kHWC8;
            }
            int found = 0;
            for (int32_t type = 0; type < kTypes; ++type) {
                for (int32_t format = 0; format < kFormats; ++format) {
                    tensors[place].desc.type = DataType(type);
                    tensors[place].desc.format = TensorFormat(format);
                    bool expected = DataType(type) == right[place];
                    if (place == 0) {
                        expected = DataType(type) == DataType::kFLOAT ||
                                   DataType(type) == DataType::kHALF ||
                                   DataType(type) == DataType::kBF16;
                    }
                    expected = expected && TensorFormat(format) == TensorFormat::kLINEAR;
                    const bool got =
                        parts.build->supportsFormatCombination(place, tensors.data(), 3, 2);
                    CHECK(got == expected, "place %d, type %d, format %d", place, type, format);
                    found += got;
                }
            }
            CHECK(found == (place == 0 ? 3 : 1), "%d at place %d", found, place);
        }
    }
    std::array<DynamicPluginTensorDesc, 6> tensors = {};
    CHECK(!parts.build->supportsFormatCombination(0, tensors.data(), 2, 2), "two inputs");
    CHECK(!parts.build->supportsFormatCombination(0, tensors.data(), 3, 1), "one output");
    CHECK(!parts.build->supportsFormatCombination(5, tensors.data(), 3, 2), "place 5");
    CHECK(!parts.build->supportsFormatCombination(-1, tensors.data(), 3, 2), "place -1");
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

DimsExprs exprs(std::initializer_list<const Dimension*> dimensions) {
    DimsExprs result = {};
    for (const Dimension* dimension : dimensions) result.d[result.nbDims++] = dimension;
    return result;
}

std::string written(const DimsExprs& dimensions) {
    std::string all;
    for (int32_t i = 0; i < dimensions.nbDims; ++i) {
        all += (i ? " " : "") + static_cast<const Dimension*>(dimensions.d[i])->text();
    }
    return all;
}

void test_output_shapes() {
    for (const Op& op : kOps) {
        const Parts parts(create(op.name, {}));
        ExprBuilder builder;
        const auto shapes = [&](const DimsExprs& gates, const DimsExprs& c0,
                                const DimsExprs& lengths) {
            const DimsExprs in[] = {gates, c0, lengths};
            DimsExprs out[2] = {};
            if (parts.build->getOutputShapes(in, 3, nullptr, 0, out, 2, builder) != 0) {
                return std::string("refused");
            }
            return written(out[0]) + ", " + written(out[1]);
        };
        const Dimension* T = builder.symbol("T");
        const Dimension* B = builder.symbol("B");
        const Dimension* H = builder.symbol("H");
        const std::string G = std::to_string(op.gates);
        const DimsExprs c0 = exprs({B, H}), lengths = exprs({B});
        std::string got = shapes(exprs({T, B, builder.symbol("W")}), c0, lengths);
        CHECK(got == "T B (W / " + G + "), B H", "%s", got.c_str());
        got = shapes(exprs({T, B, builder.fixed(10 * op.gates)}), exprs({B, builder.fixed(10)}),
                     lengths);
        CHECK(got == "T B 10, B 10", "%s", got.c_str());
        got = shapes(exprs({builder.fixed(0), builder.fixed(0), builder.fixed(0)}),
                     exprs({builder.fixed(0), builder.fixed(0)}), exprs({builder.fixed(0)}));
        CHECK(got == "0 0 0, 0 0", "%s", got.c_str());
        CHECK(logger.quiet(), "%s", logger.errors.c_str());

        const DimsExprs odd = exprs({T, B, builder.fixed(10 * op.gates + 1)});
        CHECK(shapes(odd, exprs({B, builder.fixed(10)}), lengths) == "refused", "odd columns");
        CHECK(logger.told("columns, expected " + G + " times the hidden size 10 of c0"), "columns");
        CHECK(shapes(exprs({T, B}), c0, lengths) == "refused", "rank of gates");
        CHECK(logger.told("input gates [T, B, G*H] has 2 dimensions, expected 3"), "gates");
        CHECK(shapes(exprs({T, B, H}), exprs({B, H, H}), lengths) == "refused", "rank of c0");
        CHECK(logger.told("input c0 [B, H] has 3 dimensions, expected 2"), "c0");
        CHECK(shapes(exprs({T, B, H}), c0, exprs({})) == "refused", "rank of lengths");
        CHECK(logger.told("input lengths [B] has 0 dimensions, expected 1"), "lengths");
        builder.broken = true;
        CHECK(shapes(exprs({T, B, H}), c0, lengths) == "refused", "broken builder");
        CHECK(logger.told("TensorRT cannot divide the columns"), "broken builder");
    }
}

struct Tensors {
    std::array<DynamicPluginTensorDesc, 3> in = {};
    std::array<DynamicPluginTensorDesc, 2> out = {};

    // `sizes` as TensorRT knows them when it builds, -1 where they vary; `T` and `B` the largest.
    Tensors(DataType type, int64_t T, int64_t B, int64_t H, int64_t G, bool fixed_H = true) {
        const int64_t h = fixed_H ? H : -1;
        in[0].desc = tensor({-1, -1, fixed_H ? G * H : -1}, type);
        in[1].desc = tensor({-1, h}, DataType::kFLOAT);
        in[2].desc = tensor({-1}, DataType::kINT64);
        out[0].desc = tensor({-1, -1, h}, type);
        out[1].desc = tensor({-1, h}, DataType::kFLOAT);
        in[0].max = dims({T, B, G * H});
        in[1].max = dims({B, H});
        in[2].max = dims({B});
    }
};

void test_configuration_and_workspace() {
    fake_gpu::State& gpu = fresh_gpu();
    const Parts parts(create("QRNNPoolFO", {}));
    const auto configure = [&](const Tensors& t) {
        return parts.build->configurePlugin(t.in.data(), 3, t.out.data(), 2) == 0;
    };
    const auto workspace = [&](const Tensors& t) {
        return parts.build->getWorkspaceSize(t.in.data(), 3, t.out.data(), 2);
    };
    for (DataType type : kStorages) {
        const Tensors good(type, 8192, 2, 64, 3);
        CHECK(configure(good), "%s", logger.errors.c_str());
        qrnn::PoolArguments largest;
        largest.storage = storage_of(type);
        largest.steps = 8192;
        largest.batch = 2;
        largest.hidden = 64;
        const size_t expected = qrnn::gpu_workspace_bound(largest, gpu.device);
        CHECK(expected > 0, "the core needs none, choose another shape");
        CHECK(workspace(good) == expected, "%zu bytes, expected %zu", workspace(good), expected);
    }
    gpu.device_result = cudaErrorNoDevice;
    CHECK(workspace(Tensors(DataType::kFLOAT, 8192, 2, 64, 3)) == 0, "workspace without a GPU");
    CHECK(logger.quiet(), "%s", logger.errors.c_str());

    CHECK(!configure(Tensors(DataType::kFLOAT, 100, 8, 32, 3, false)), "dynamic H");
    CHECK(logger.told("the hidden size is dynamic, expected one that is fixed"), "dynamic H");
    CHECK(!configure(Tensors(DataType::kFLOAT, 100, 8, 32, 2)), "wrong gate count");
    CHECK(logger.told("gates has 64 columns, expected 3 times the hidden size 32"), "gate count");
    CHECK(!configure(Tensors(DataType::kFLOAT, -1, 8, 32, 3)), "no bound of T");
    CHECK(logger.told("the largest sizes of gates and c0 are not known"), "no bound of T");
    CHECK(workspace(Tensors(DataType::kFLOAT, -1, 8, 32, 3)) == 0, "no bound of T");
    Tensors flat(DataType::kFLOAT, 100, 8, 32, 3);
    flat.in[2].desc.dims.nbDims = 0;
    CHECK(!configure(flat), "rank of lengths");
    CHECK(logger.told("input lengths [B] has 0 dimensions, expected 1"), "rank of lengths");
    CHECK(parts.build->configurePlugin(flat.in.data(), 2, flat.out.data(), 2) != 0, "two inputs");
    CHECK(logger.told("has 2 inputs and 2 outputs"), "two inputs");
}

const cudaStream_t kStream = reinterpret_cast<cudaStream_t>(uintptr_t{0x51});

// What TensorRT passes to enqueue.
struct Run {
    std::array<PluginTensorDesc, 3> in;
    std::array<PluginTensorDesc, 2> out;
    std::array<char, 64> memory = {};
    std::array<const void*, 3> inputs = {&memory[0], &memory[8], &memory[16]};
    std::array<void*, 2> outputs = {&memory[24], &memory[32]};
    void* workspace = &memory[48];

    Run(DataType type, int64_t T, int64_t B, int64_t H, int64_t G)
        : in{tensor({T, B, G * H}, type), tensor({B, H}, DataType::kFLOAT),
             tensor({B}, DataType::kINT64)},
          out{tensor({T, B, H}, type), tensor({B, H}, DataType::kFLOAT)} {}

    bool shape_change(const Parts& parts) {
        return parts.runtime->onShapeChange(in.data(), 3, out.data(), 2) == 0;
    }
    bool enqueue(const Parts& parts) {
        return parts.runtime->enqueue(in.data(), out.data(), inputs.data(), outputs.data(),
                                      workspace, kStream) == 0;
    }
};

void test_enqueue() {
    fake_gpu::State& gpu = fresh_gpu();
    const int32_t reverse = -1;
    const float scale = 0.5f;
    for (const Op& op : kOps) {
        const bool zoneout = !qrnn::has_input_gate(op.pooling);
        std::vector<PluginField> fields = {{"direction", &reverse, PluginFieldType::kINT32, 1},
                                           text("activation", "identity")};
        if (zoneout) {
            fields.push_back({"zoneout_scale", &scale, PluginFieldType::kFLOAT32, 1});
        }
        const Parts parts(create(op.name, fields));
        for (DataType type : kStorages) {
            Run run(type, 8192, 2, 64, op.gates);
            gpu.call.reset();
            CHECK(run.shape_change(parts) && run.enqueue(parts), "%s", logger.errors.c_str());
            CHECK(gpu.call.has_value(), "%s was not enqueued", op.name);
            if (!gpu.call) continue;
            const qrnn::PoolArguments& a = gpu.call->arguments;
            CHECK(a.pooling == op.pooling && a.reverse, "%s", op.name);
            CHECK(a.storage == storage_of(type), "%s", op.name);
            CHECK(a.activation == qrnn::Activation::kIdentity, "%s", op.name);
            CHECK(a.zoneout_scale == (zoneout ? 0.5f : 1.0f), "%g", a.zoneout_scale);
            CHECK(a.steps == 8192 && a.batch == 2 && a.hidden == 64, "%s", op.name);
            CHECK(a.gates == run.inputs[0] && a.c0 == run.inputs[1], "inputs of %s", op.name);
            CHECK(a.lengths == run.inputs[2], "lengths of %s", op.name);
            CHECK(a.h == run.outputs[0] && a.c_T == run.outputs[1], "outputs of %s", op.name);
            CHECK(gpu.call->workspace == run.workspace, "workspace of %s", op.name);
            const size_t bytes = qrnn::gpu_workspace_bytes(a, gpu.device);
            CHECK(bytes > 0 && gpu.call->workspace_bytes == bytes, "workspace of %s", op.name);
            CHECK(gpu.call->stream == kStream, "stream of %s", op.name);
        }
        for (auto [T, B, H] : {std::array<int64_t, 3>{0, 2, 7}, {5, 0, 7}, {5, 2, 0}}) {
            Run empty(DataType::kFLOAT, T, B, H, op.gates);
            CHECK(empty.shape_change(parts) && empty.enqueue(parts), "%s", logger.errors.c_str());
        }
    }
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

// Through the plugin, with the CPU's kernel in the place of the GPU's: each input and output is
// the one that the operator means.
void test_answers() {
    fresh_gpu().computes = true;
    for (const Op& op : kOps) {
        for (int32_t direction : {1, -1}) {
            reference::Problem p;
            p.pooling = op.short_name;
            p.activation = "tanh";
            p.reverse = direction == -1;
            p.T = 5;
            p.B = 3;
            p.H = 7;
            p.lengths = {5, 2, 0};
            std::vector<float> gates(p.T * p.B * op.gates * p.H), c0(p.B * p.H);
            float x = 0.0f;
            for (float& value : gates) value = std::sin(x += 1.0f) * 3.0f;
            for (float& value : c0) value = std::sin(x += 1.0f);
            p.gates.assign(gates.begin(), gates.end());
            p.c0.assign(c0.begin(), c0.end());
            const reference::Answer answer = reference::solve(p);

            std::vector<float> h(p.T * p.B * p.H, NAN), c_T(p.B * p.H, NAN);
            const Parts parts(
                create(op.name, {{"direction", &direction, PluginFieldType::kINT32, 1}}));
            Run run(DataType::kFLOAT, p.T, p.B, p.H, op.gates);
            run.inputs = {gates.data(), c0.data(), p.lengths.data()};
            run.outputs = {h.data(), c_T.data()};
            CHECK(run.enqueue(parts), "%s", logger.errors.c_str());
            for (size_t i = 0; i < h.size(); ++i) {
                CHECK(std::fabs(h[i] - answer.h[i]) <= answer.h_bound[i], "h[%zu] of %s is %g", i,
                      op.name, h[i]);
            }
            for (size_t i = 0; i < c_T.size(); ++i) {
                CHECK(std::fabs(c_T[i] - answer.c_T[i]) <= answer.c_bound[i],
                      "c_T[%zu] of %s is %g", i, op.name, c_T[i]);
            }
        }
    }
}

void test_bad_enqueue() {
    fake_gpu::State& gpu = fresh_gpu();
    const Parts parts(create("QRNNPoolFO", {}));
    const struct {
        int32_t tensor, axis;
        int64_t size;
        const char* message;
    } bad[] = {
        {0, 2, 20, "gates has 20 columns, expected 3 times the hidden size 7 of c0"},
        {0, 2, kHighest, "columns, expected 3 times the hidden size 7 of c0"},
        {1, 1, 8, "gates has 21 columns, expected 3 times the hidden size 8 of c0"},
        {0, 1, 3, "gates has batch size 3, c0 2 and lengths 2, expected one B for all"},
        {1, 0, 1, "gates has batch size 2, c0 1 and lengths 2, expected one B for all"},
        {2, 0, 1, "gates has batch size 2, c0 2 and lengths 1, expected one B for all"},
        {0, 0, -1, "a size of input gates [T, B, G*H] is not known"},
    };
    for (const auto& one : bad) {
        Run run(DataType::kFLOAT, 5, 2, 7, 3);
        run.in[one.tensor].dims.d[one.axis] = one.size;
        CHECK(!run.shape_change(parts), "%s", one.message);
        CHECK(logger.told(one.message), "%s", one.message);
        CHECK(!run.enqueue(parts), "%s", one.message);
        CHECK(logger.told(one.message), "%s", one.message);
    }
    Run run(DataType::kFLOAT, 5, 2, 7, 3);
    run.out[0].type = DataType::kHALF;
    CHECK(!run.enqueue(parts), "h of another type");
    CHECK(logger.told("gates and h are not of one type"), "h of another type");
    run.in[0].type = run.out[0].type = DataType::kINT8;
    CHECK(!run.enqueue(parts), "int8");
    CHECK(logger.told("expected float32, float16 or bfloat16"), "int8");
    run = Run(DataType::kFLOAT, 5, 2, 7, 3);
    CHECK(parts.runtime->onShapeChange(run.in.data(), 2, run.out.data(), 2) != 0, "two inputs");
    CHECK(logger.told("has 2 inputs and 2 outputs"), "two inputs");
    CHECK(parts.runtime->enqueue(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr) != 0,
          "null");
    CHECK(logger.told("descriptions or addresses of the tensors are missing"), "null");
    CHECK(!gpu.call, "the kernel was started");

    gpu.pool_result = cudaErrorLaunchFailure;
    CHECK(!run.enqueue(parts), "launch failed");
    CHECK(logger.told("the kernel could not be started: unspecified launch failure "
                      "(cudaErrorLaunchFailure)"),
          "launch failed");
    gpu.call.reset();
    gpu.device_result = cudaErrorNoDevice;
    CHECK(!run.enqueue(parts), "no GPU");
    CHECK(logger.told("the GPU cannot be used: "), "no GPU");
    CHECK(!gpu.call, "the kernel was started");
}

// Copies equal the original and outlive it; an engine's fields make the same plugin again.
void test_copies_and_engines() {
    fake_gpu::State& gpu = fresh_gpu();
    const int32_t reverse = -1;
    const float scale = 0.1f;  // no exact decimal
    const std::vector<PluginField> fields = {
        {"direction", &reverse, PluginFieldType::kINT32, 1},
        text("activation", "relu"),
        {"zoneout_scale", &scale, PluginFieldType::kFLOAT32, 1}};
    auto original = std::make_unique<Parts>(create("QRNNPoolF", fields));
    const std::string expected = serialized(original->plugin.get());
    CHECK(expected.find("activation=relu;") != std::string::npos, "%s", expected.c_str());
    const Parts copy(original->plugin->clone());
    const Parts attached(original->runtime->attachToContext(nullptr));
    const PluginFieldCollection* stored = original->runtime->getFieldsToSerialize();
    const Parts revived(
        creator_of("QRNNPoolF")->createPlugin("again", stored, TensorRTPhase::kRUNTIME));
    CHECK(revived.plugin != nullptr, "%s", logger.errors.c_str());
    original.reset();
    for (const Parts* parts : {&copy, &attached, &revived}) {
        CHECK(serialized(parts->plugin.get()) == expected, "fields differ");
        CHECK(std::string(parts->core->getPluginName()) == "QRNNPoolF", "name differs");
        Run run(DataType::kHALF, 8192, 2, 64, 2);
        gpu.call.reset();
        CHECK(run.enqueue(*parts), "%s", logger.errors.c_str());
        const qrnn::PoolArguments& a = gpu.call->arguments;
        CHECK(a.reverse && a.activation == qrnn::Activation::kRelu && a.zoneout_scale == scale,
              "attributes differ");
        CHECK(gpu.call->workspace == run.workspace, "no workspace");
    }
    // On another GPU than the engine was built for, the reserved memory may be too little.
    for (const qrnn::GpuDevice& other : {qrnn::GpuDevice{108, 90}, qrnn::GpuDevice{132, 80}}) {
        gpu.device = other;
        for (const Parts* parts : {&copy, &revived}) {
            Run run(DataType::kHALF, 8192, 2, 64, 2);
            gpu.call.reset();
            CHECK(run.enqueue(*parts), "%s", logger.errors.c_str());
            const bool expects_workspace = parts == &copy;  // still building, on this very GPU
            CHECK((gpu.call->workspace != nullptr) == expects_workspace, "workspace");
            CHECK((gpu.call->workspace_bytes != 0) == expects_workspace, "workspace");
        }
    }
    CHECK(serialized(revived.plugin.get()) == expected, "the engine forgot its GPU");
    // An engine whose bytes were damaged, or that a later version wrote.
    const int32_t one = 1;
    CHECK(create("QRNNPoolF", {{"built_for", &one, PluginFieldType::kINT32, 1}},
                 TensorRTPhase::kRUNTIME) == nullptr,
          "built_for of one number");
    CHECK(logger.told("field built_for is 1 of int32, expected 2 of int32"), "built_for");
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

}  // namespace

int main() {
    return run_tests(test_output_types, test_format_combinations, test_output_shapes,
                     test_configuration_and_workspace, test_enqueue, test_answers, test_bad_enqueue,
                     test_copies_and_engines);
}
