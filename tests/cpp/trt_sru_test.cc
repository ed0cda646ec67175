// What the TensorRT plugin asks of an SRU's further inputs, and its other default.
// (Formats, shapes, enqueue and answers of every operator: trt_plugin_test.cc.)
#include "trt_tensors.h"

namespace {

using namespace trt_tensors;

// Every type at each place of an SRU's inputs, beside right ones.
void test_output_types_of_srus() {
    for (const Op& op : kOps) {
        if (op.inputs == 3) continue;
        const Parts parts(create(op.name, {}));
        for (DataType storage : kStorages) {
            for (int32_t place = 1; place < op.inputs; ++place) {
                int good = 0;
                for (int32_t type = 0; type < nvinfer1::EnumMax<DataType>(); ++type) {
                    std::vector<DataType> in = types_of(op, storage);
                    const bool expected = in[place] == DataType(type);
                    in[place] = DataType(type);
                    DataType out[] = {DataType::kBOOL, DataType::kBOOL};
                    const bool got =
                        parts.build->getOutputDataTypes(out, 2, in.data(), op.inputs) == 0;
                    CHECK(got == expected, "%s: type %d at %d", op.name, type, place);
                    CHECK(got || logger.told("the_layer"), "%s: type %d", op.name, type);
                    CHECK(!got || (out[0] == storage && out[1] == DataType::kFLOAT), "%s", op.name);
                    good += got;
                }
                CHECK(good == 1, "%s: %d types at %d", op.name, good, place);
            }
        }
        DataType out[2];
        const std::vector<DataType> in = types_of(op, DataType::kFLOAT);
        CHECK(parts.build->getOutputDataTypes(out, 2, in.data(), 3) != 0, "three inputs");
        CHECK(
            logger.told("has 3 inputs and 2 outputs, expected gates, c0, lengths, weight_c, bias"),
            "three inputs");
    }
    const Parts parts(create("SRUPoolInput", {}));
    DataType out[2];
    std::vector<DataType> in = types_of(op_of("SRUPoolInput"), DataType::kHALF);
    in[5] = DataType::kFLOAT;
    CHECK(parts.build->getOutputDataTypes(out, 2, in.data(), 6) != 0, "skip");
    CHECK(logger.told("input skip is not of the type of gates"), "skip");
    in = types_of(op_of("SRUPoolInput"), DataType::kHALF);
    in[3] = DataType::kHALF;
    CHECK(parts.build->getOutputDataTypes(out, 2, in.data(), 6) != 0, "weight_c");
    CHECK(logger.told("input weight_c is not float32, expected float32 whatever"), "weight_c");
}

void test_configuration_of_srus() {
    fresh_gpu();
    for (const Op& op : kOps) {
        if (op.inputs == 3) continue;
        const Parts parts(create(op.name, {}));
        const auto configure = [&](const Tensors& t) {
            return parts.build->configurePlugin(t.in.data(), op.inputs, t.out.data(), 2) == 0;
        };
        for (DataType type : kStorages) {
            const Tensors good(type, 8192, 2, 64, op.gates);
            CHECK(configure(good), "%s", logger.errors.c_str());
            CHECK(parts.build->getWorkspaceSize(good.in.data(), op.inputs, good.out.data(), 2) == 0,
                  "%s: its time cannot be split", op.name);
        }
        CHECK(!configure(Tensors(DataType::kFLOAT, 100, 8, 32, op.gates + 1)), "gate count");
        CHECK(logger.told("times the hidden size 32 of c0"), "gate count");
        for (int32_t input : {3, 4}) {
            Tensors bad(DataType::kFLOAT, 100, 8, 32, op.gates);
            bad.in[input].desc.dims = dims({2, 31});
            CHECK(!configure(bad), "columns of %d", input);
            CHECK(logger.told("has the shape [2, 31], expected [2, 32] for the hidden size 32"),
                  "columns of %d", input);
            bad.in[input].desc.dims = dims({64});
            CHECK(!configure(bad), "rank of %d", input);
            CHECK(logger.told("[2, H] has 1 dimensions, expected 2"), "rank of %d", input);
        }
        const Tensors t(DataType::kFLOAT, 100, 8, 32, op.gates);
        CHECK(parts.build->configurePlugin(t.in.data(), 3, t.out.data(), 2) != 0, "three inputs");
        CHECK(logger.told("has 3 inputs and 2 outputs"), "three inputs");
    }
}

void test_bad_enqueue_of_srus() {
    fake_gpu::State& gpu = fresh_gpu();
    const Parts parts(create("SRUPoolInput", {}));
    const struct {
        int32_t tensor, axis;
        int64_t size;
        const char* message;
    } bad[] = {
        {0, 2, 28, "gates has 28 columns, expected 3 times the hidden size 7 of c0"},
        {2, 0, 1, "gates has batch size 2, c0 2 and lengths 1, expected one B for all"},
        {3, 0, 1, "input weight_c [2, H] has the shape [1, 7], expected [2, 7] for the hidden"},
        {3, 1, 8, "input weight_c [2, H] has the shape [2, 8], expected [2, 7] for the hidden"},
        {4, 0, 3, "input bias [2, H] has the shape [3, 7], expected [2, 7] for the hidden size 7"},
        {4, 1, kHighest, "input bias [2, H] has the shape [2, 92"},
        {5, 0, 4, "input skip [T, B, H] has the shape [4, 2, 7], expected [5, 2, 7] as h"},
        {5, 1, 3, "input skip [T, B, H] has the shape [5, 3, 7], expected [5, 2, 7] as h"},
        {5, 2, 6, "input skip [T, B, H] has the shape [5, 2, 6], expected [5, 2, 7] as h"},
        {5, 0, -1, "a size of input skip [T, B, H] is not known"},
    };
    for (const auto& one : bad) {
        Run run(DataType::kFLOAT, 5, 2, 7, 3, 6);
        run.in[one.tensor].dims.d[one.axis] = one.size;
        CHECK(!run.shape_change(parts), "%s", one.message);
        CHECK(logger.told(one.message), "%s", one.message);
        CHECK(!run.enqueue(parts), "%s", one.message);
        CHECK(logger.told(one.message), "%s", one.message);
    }
    Run run(DataType::kFLOAT, 5, 2, 7, 3, 6);
    run.in[5].type = DataType::kHALF;
    CHECK(!run.enqueue(parts), "skip of another type");
    CHECK(logger.told("gates and skip are not of one type"), "skip of another type");
    CHECK(!gpu.call, "the kernel was started");
    run = Run(DataType::kFLOAT, 5, 2, 7, 3, 6);
    CHECK(run.enqueue(parts) && gpu.call.has_value(), "%s", logger.errors.c_str());
}

// What an engine stores of an SRU makes the same plugin, whose default activation is another.
void test_engines_of_srus() {
    fresh_gpu();
    for (const Op& op : kOps) {
        if (op.inputs == 3) continue;
        for (const char* activation : {"tanh", "relu", "identity"}) {
            const Parts original(create(op.name, {text("activation", activation)}));
            const Parts revived(creator_of(op.name)->createPlugin(
                "again", original.runtime->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
            CHECK(revived.plugin != nullptr, "%s", logger.errors.c_str());
            if (revived.plugin == nullptr) continue;
            const std::string expected =
                std::string(op.name) + " direction=1 activation=" + activation;
            CHECK(revived.build->getMetadataString() == expected, "%s",
                  revived.build->getMetadataString());
            CHECK(serialized(revived.plugin.get()) == serialized(original.plugin.get()), "fields");
        }
    }
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
}

}  // namespace

int main() {
    return run_tests(test_output_types_of_srus, test_configuration_of_srus,
                     test_bad_enqueue_of_srus, test_engines_of_srus);
}
