// The contract of the TensorRT plugin, with a TensorRT and a GPU of the test's own: types, every
// format combination, shapes, workspace, enqueue, copies, and what an engine stores.
#include <array>
#include <cmath>
#include <limits>

#include "fake_gpu.h"
#include "gpu_plan.h"
#include "reference.h"
#include "trt_tensors.h"

namespace {

using namespace trt_tensors;
using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

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
void test_format_combinations(const Op& op) {
    constexpr int32_t kTypes = nvinfer1::EnumMax<DataType>();
    constexpr int32_t kFormats = nvinfer1::EnumMax<TensorFormat>();
    const Parts parts(create(op.name, {}));
    const int32_t places = op.inputs + 2;
    for (DataType storage : kStorages) {
        const std::vector<DataType> right = types_of(op, storage);
        for (int32_t place = 0; place < places; ++place) {
            std::vector<DynamicPluginTensorDesc> tensors(places);
            for (int32_t i = 0; i < places; ++i) {
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
                        parts.build->supportsFormatCombination(place, tensors.data(), op.inputs, 2);
                    CHECK(got == expected, "%s: place %d, type %d, format %d", op.name, place, type,
                          format);
                    found += got;
                }
            }
            CHECK(found == (place == 0 ? 3 : 1), "%s: %d at place %d", op.name, found, place);
        }
    }
}

void test_format_combinations() {
    for (const Op& op : kOps) test_format_combinations(op);
    const Parts parts(create("QRNNPoolIFO", {}));
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
        DimsExprs parameters = exprs({builder.fixed(2), builder.symbol("H")});  // weight_c and bias
        DimsExprs skip = exprs({builder.symbol("T"), builder.symbol("B"), builder.symbol("H")});
        const auto shapes = [&](const DimsExprs& gates, const DimsExprs& c0,
                                const DimsExprs& lengths) {
            DimsExprs in[] = {gates, c0, lengths, parameters, parameters, skip};
            DimsExprs out[2] = {};
            const int32_t inputs = op.inputs;
            if (parts.build->getOutputShapes(in, inputs, nullptr, 0, out, 2, builder) != 0) {
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
        if (op.inputs >= 5) {
            parameters = exprs({H});
            CHECK(shapes(exprs({T, B, H}), c0, lengths) == "refused", "rank of weight_c");
            CHECK(logger.told("input weight_c [2, H] has 1 dimensions, expected 2"), "weight_c");
            parameters = exprs({builder.fixed(2), H});
        }
        if (op.inputs == 6) {
            skip = exprs({B, H});
            CHECK(shapes(exprs({T, B, H}), c0, lengths) == "refused", "rank of skip");
            CHECK(logger.told("input skip [T, B, H] has 2 dimensions, expected 3"), "skip");
            skip = exprs({T, B, H});
        }
        builder.broken = true;
        CHECK(shapes(exprs({T, B, H}), c0, lengths) == "refused", "broken builder");
        CHECK(logger.told("TensorRT cannot divide the columns"), "broken builder");
    }
}

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

void test_enqueue() {
    fake_gpu::State& gpu = fresh_gpu();
    const int32_t reverse = -1;
    const float scale = 0.5f;
    for (const Op& op : kOps) {
        const bool zoneout = op.short_name[0] == 'f';
        std::vector<PluginField> fields = {{"direction", &reverse, PluginFieldType::kINT32, 1},
                                           text("activation", "relu")};
        if (zoneout) {
            fields.push_back({"zoneout_scale", &scale, PluginFieldType::kFLOAT32, 1});
        }
        const Parts parts(create(op.name, fields));
        for (DataType type : kStorages) {
            Run run(type, 8192, 2, 64, op.gates, op.inputs);
            gpu.call.reset();
            CHECK(run.shape_change(parts) && run.enqueue(parts), "%s", logger.errors.c_str());
            CHECK(gpu.call.has_value(), "%s was not enqueued", op.name);
            if (!gpu.call) continue;
            const qrnn::PoolArguments& a = gpu.call->arguments;
            CHECK(a.pooling == op.pooling && a.reverse, "%s", op.name);
            CHECK(a.storage == storage_of(type), "%s", op.name);
            CHECK(a.activation == qrnn::Activation::kRelu, "%s", op.name);
            CHECK(a.zoneout_scale == (zoneout ? 0.5f : 1.0f), "%g", a.zoneout_scale);
            CHECK(a.steps == 8192 && a.batch == 2 && a.hidden == 64, "%s", op.name);
            CHECK(a.gates == run.inputs[0] && a.c0 == run.inputs[1], "inputs of %s", op.name);
            CHECK(a.lengths == run.inputs[2], "lengths of %s", op.name);
            CHECK(a.h == run.outputs[0] && a.c_T == run.outputs[1], "outputs of %s", op.name);
            const bool sru = op.inputs > 3;
            CHECK(a.weight_c == (sru ? run.inputs[3] : nullptr), "weight_c of %s", op.name);
            CHECK(a.bias == (sru ? run.inputs[4] : nullptr), "bias of %s", op.name);
            CHECK(a.skip == (op.inputs == 6 ? run.inputs[5] : nullptr), "skip of %s", op.name);
            const size_t bytes = qrnn::gpu_workspace_bytes(a, gpu.device);
            CHECK((bytes > 0) == !sru, "%zu bytes for %s", bytes, op.name);
            CHECK(gpu.call->workspace_bytes == bytes, "workspace of %s", op.name);
            CHECK(gpu.call->workspace == (sru ? nullptr : run.workspace), "workspace of %s",
                  op.name);
            CHECK(gpu.call->stream == kStream, "stream of %s", op.name);
        }
        for (auto [T, B, H] : {std::array<int64_t, 3>{0, 2, 7}, {5, 0, 7}, {5, 2, 0}}) {
            Run empty(DataType::kFLOAT, T, B, H, op.gates, op.inputs);
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
            p.activation = op.activation;
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
            std::vector<float> parameters(4 * p.H), skip(p.T * p.B * p.H);
            for (float& value : parameters) value = std::sin(x += 1.0f);
            for (float& value : skip) value = std::sin(x += 1.0f);
            p.weight_c.assign(parameters.begin(), parameters.begin() + 2 * p.H);
            p.bias.assign(parameters.begin() + 2 * p.H, parameters.end());
            p.skip.assign(skip.begin(), skip.end());
            const reference::Answer answer = reference::solve(p);

            std::vector<float> h(p.T * p.B * p.H, NAN), c_T(p.B * p.H, NAN);
            const Parts parts(
                create(op.name, {{"direction", &direction, PluginFieldType::kINT32, 1}}));
            Run run(DataType::kFLOAT, p.T, p.B, p.H, op.gates, op.inputs);
            run.inputs = {gates.data(),         c0.data(),  p.lengths.data(), parameters.data(),
                          &parameters[2 * p.H], skip.data()};
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
    return run_tests(
        test_output_types, [] { test_format_combinations(); }, test_output_shapes,
        test_configuration_and_workspace, test_enqueue, test_answers, test_bad_enqueue,
        test_copies_and_engines);
}
