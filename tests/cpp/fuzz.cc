// Random cases for the core and for the ONNX Runtime glue, compared with a plain loop in double.
//
//   qrnn_deploy_fuzz [--cases N] [--seed S] [--only INDEX]
//
// Meant to run under AddressSanitizer and UBSan (CMake option QRNN_DEPLOY_SANITIZE). Case INDEX of
// seed S is always the same; a failure prints the command that repeats it.
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "fake_ort.h"
#include "fuzz_case.h"
#ifdef QRNN_DEPLOY_CUDA
#include "fake_gpu.h"
#endif

extern "C" {
OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);
size_t qrnn_deploy_drain_created(char* buffer, size_t size);
}

namespace fuzz {
namespace {

struct Failure {
    std::string what;
};

void require(bool condition, const std::string& what) {
    if (!condition) throw Failure{what};
}

struct Counts {
    int64_t core = 0, glue = 0, cuda = 0, refused = 0, parallel = 0, inferred = 0, empty = 0;
};

// ---------------------------------------------------------------------------------------- core

void run_core(Random& random, const Case& c, const reference::Answer& answer) {
    std::vector<qrnn::Isa> isas;
    for (qrnn::Isa isa : {qrnn::Isa::kPortable, qrnn::Isa::kAvx2, qrnn::Isa::kAvx512}) {
        if (qrnn::isa_available(isa)) isas.push_back(isa);
    }
    const qrnn::Isa isa = isas[uniform(random, 0, static_cast<int64_t>(isas.size()) - 1)];
    Buffer h(random, c.h_bytes()), c_T(random, c.c_bytes());
    qrnn::PoolArguments a;
    c.give(a);
    a.h = h.data();
    a.c_T = c_T.data();
    if (chance(random, 0.2)) {  // in place
        std::memcpy(c_T.data(), c.c0.data(), static_cast<size_t>(c.c_bytes()));
        a.c0 = a.c_T;
    }
    const qrnn::PoolPlan plan = qrnn::plan_pool(a, uniform(random, 0, 9), isa);
    for (int64_t part = plan.parts() - 1; part >= 0; --part) plan.run(a, part);
    const std::string wrong = c.mismatch(answer, h.data(), c_T.data());
    require(wrong.empty(), std::string("core, ") + qrnn::isa_name(isa) + ": " + wrong);
}

// ---------------------------------------------------------------------------------------- glue

const OrtApi& api() { return *fake_ort::api_base()->GetApi(ORT_API_VERSION); }

constexpr char kCpu[] = "CPUExecutionProvider";
#ifdef QRNN_DEPLOY_CUDA
constexpr char kCuda[] = "CUDAExecutionProvider";
#endif

const OrtCustomOp& find_op(const std::string& pooling, ONNXTensorElementDataType element,
                           const std::string& provider = kCpu) {
    OrtSessionOptions options;
    require(RegisterCustomOps(&options, fake_ort::api_base()) == nullptr, "registration failed");
    require(options.domains.size() == 1 && options.domains[0]->name == "qrnn_deploy", "domain");
    static const std::map<std::string, std::string> names = {{"f", "QRNNPoolF"},
                                                             {"fo", "QRNNPoolFO"},
                                                             {"ifo", "QRNNPoolIFO"},
                                                             {"if", "QRNNPoolIF"},
                                                             {"sru", "SRUPool"},
                                                             {"sru_input", "SRUPoolInput"},
                                                             {"sru_noskip", "SRUPoolNoSkip"}};
    const std::string& name = names.at(pooling);
    for (const OrtCustomOp* op : options.domains[0]->ops) {
        if (op->GetName(op) == name && op->GetInputType(op, 0) == element &&
            op->GetExecutionProviderType(op) == provider) {
            return *op;
        }
    }
    throw Failure{"no operator " + name};
}

ONNXTensorElementDataType element_of(qrnn::Storage storage) {
    return storage == qrnn::Storage::kFloat32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
           : storage == qrnn::Storage::kFloat16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                                : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
}

// An error must be one line and name the node.
void require_refused(OrtStatus* status, const std::string& node) {
    require(status != nullptr, "bad input was accepted");
    const std::string message = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    require(message.find('\n') == std::string::npos, "message of several lines: " + message);
    require(message.find("'" + node + "'") != std::string::npos, "no node name: " + message);
}

void require_ok(OrtStatus* status) {
    if (status == nullptr) return;
    const std::string message = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    throw Failure{"refused: " + message};
}

void break_attribute(Random& random, bool takes_zoneout, OrtKernelInfo& info) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    switch (uniform(random, 0, 6)) {
        case 0: {
            const int64_t direction = uniform(random, -3, 3);
            info.attributes["direction"] = std::abs(direction) == 1 ? int64_t{0} : direction;
            break;
        }
        case 1:
            info.attributes["activation"] = std::string(chance(random, 0.5) ? "Tanh" : "");
            break;
        case 2: {
            const float bad[] = {0.0f, -0.5f, 1.0001f, nan, INFINITY, -0.0f};
            info.attributes["zoneout_scale"] = takes_zoneout ? bad[uniform(random, 0, 5)] : 0.5f;
            break;
        }
        case 3:
            info.attributes["plugin_version"] = std::string(chance(random, 0.5) ? "2" : "1.0");
            break;
        case 4: info.attributes["direction"] = 1.0f; break;
        case 5: info.attributes["activation"] = int64_t{1}; break;
        default: info.attributes["zoneout_scale"] = std::string("1");
    }
}

// Makes one input not fit the others; its memory is of exactly the size that it then claims.
// `lengths_too`: or makes a length too large or negative.
void break_input(Random& random, const Case& c, bool lengths_too, std::vector<OrtValue>& inputs,
                 std::vector<OrtValue*>& given, std::vector<Buffer>& memory) {
    const auto resize = [&](size_t index) {
        int64_t bytes = fake_ort::element_size(inputs[index].info.element);
        for (int64_t dimension : inputs[index].info.dimensions) bytes *= dimension;
        memory.emplace_back(random, bytes);
        inputs[index].data = memory.back().data();
    };
    const auto change = [&](size_t index, size_t axis) {
        int64_t& dimension = inputs[index].info.dimensions[axis];
        dimension += dimension > 0 && chance(random, 0.5) ? -1 : 1;
        resize(index);
    };
    const auto any = [&] {
        return static_cast<size_t>(uniform(random, 0, static_cast<int64_t>(inputs.size()) - 1));
    };
    switch (uniform(random, 0, lengths_too ? 8 : 7)) {
        case 0: {  // rank
            const size_t index = any();
            auto& dimensions = inputs[index].info.dimensions;
            if (chance(random, 0.5)) {
                dimensions.push_back(uniform(random, 0, 2));
            } else {
                dimensions.pop_back();
            }
            resize(index);
            break;
        }
        case 1: change(1, 0); break;
        case 2: change(2, 0); break;
        case 3: change(0, 2); break;
        case 4: change(1, 1); break;
        case 5: given[any()] = nullptr; break;
        case 6: {  // type
            const size_t index = any();
            auto& element = inputs[index].info.element;
            element = element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                          ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                          : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
            resize(index);
            break;
        }
        case 7: {  // an SRU's own inputs
            const size_t index = std::max<size_t>(any(), 1);
            const size_t axes = inputs[index].info.dimensions.size();
            change(index, static_cast<size_t>(uniform(random, 0, static_cast<int64_t>(axes) - 1)));
            break;
        }
        default: {
            const int64_t B = c.problem.B;
            if (B == 0) {
                change(2, 0);
                break;
            }
            const int64_t bad[] = {c.problem.T + 1, -1, std::numeric_limits<int64_t>::max(),
                                   std::numeric_limits<int64_t>::min()};
            memory.emplace_back(random, B * 8);
            std::memcpy(memory.back().data(), c.lengths.data(), static_cast<size_t>(B * 8));
            std::memcpy(memory.back().data() + uniform(random, 0, B - 1) * 8,
                        &bad[uniform(random, 0, 3)], 8);
            inputs[2].data = memory.back().data();
        }
    }
}

void run_glue(Random& random, const Case& c, const reference::Answer& answer, Counts& counts) {
    const reference::Problem& p = c.problem;
    OrtKernelInfo info;
    OrtKernelContext context;
    [[maybe_unused]] FakeArena arena(0);
    bool on_gpu = false;
    const char* provider = kCpu;
#ifdef QRNN_DEPLOY_CUDA
    on_gpu = chance(random, 0.3);
    if (on_gpu) {  // its memory is the host's here, so that the sanitizers watch it
        provider = kCuda;
        info.arena = context.arena = &arena;
        context.stream = &arena;
        fake_gpu::state() = {};
        fake_gpu::state().computes = true;
    }
#endif
    const OrtCustomOp& op = find_op(p.pooling, element_of(c.storage), provider);
    info.node_name = "node/" + std::to_string(uniform(random, 0, 99));
    // What equals the default may be left out.
    if (p.reverse || chance(random, 0.5)) {
        info.attributes["direction"] = int64_t{p.reverse ? -1 : 1};
    }
    if (p.activation != (p.is_sru() ? "identity" : "tanh") || chance(random, 0.5)) {
        info.attributes["activation"] = p.activation;
    }
    if (p.zoneout_scale != 1.0 || chance(random, 0.5)) {
        info.attributes["zoneout_scale"] = static_cast<float>(p.zoneout_scale);
    }
    if (chance(random, 0.5)) info.attributes["plugin_version"] = std::string("1");
    if (chance(random, 0.5)) info.attributes["plugin_namespace"] = std::string("");

    const bool bad_attribute = chance(random, 0.1);
    if (bad_attribute) break_attribute(random, p.pooling[0] == 'f', info);
    void* kernel = nullptr;
    OrtStatus* status = op.CreateKernelV2(&op, &api(), &info, &kernel);
    if (bad_attribute) {
        require_refused(status, info.node_name);
        require(kernel == nullptr, "a refused node has a kernel");
        ++counts.refused;
        return;
    }
    require_ok(status);
    const std::unique_ptr<void, decltype(op.KernelDestroy)> owner(kernel, op.KernelDestroy);

    constexpr auto kFloat32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    std::vector<OrtValue> inputs = {
        {{element_of(c.storage), {p.T, p.B, p.gate_count() * p.H}, {}}, c.gates.data()},
        {{kFloat32, {p.B, p.H}, {}}, c.c0.data()},
        {{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, {p.B}, {}}, c.lengths.data()}};
    if (p.is_sru()) {
        inputs.push_back({{kFloat32, {2, p.H}, {}}, c.weight_c.data()});
        inputs.push_back({{kFloat32, {2, p.H}, {}}, c.bias.data()});
    }
    if (p.pooling == "sru_input") {
        inputs.push_back({{element_of(c.storage), {p.T, p.B, p.H}, {}}, c.skip.data()});
    }
    require(op.GetInputTypeCount(&op) == inputs.size(), "count of inputs");
    for (size_t i = 0; i < inputs.size(); ++i) {
        require(op.GetInputType(&op, i) == inputs[i].info.element, "type of an input");
        context.inputs.push_back(&inputs[i]);
    }
    Buffer h(random, c.h_bytes()), c_T(random, c.c_bytes());
    context.outputs.resize(2);
    context.outputs[0] = {{element_of(c.storage), {}, {}}, h.data()};
    context.outputs[1] = {{kFloat32, {}, {}}, c_T.data()};
    context.output_bytes = {static_cast<size_t>(h.size()), static_cast<size_t>(c_T.size())};
    context.output_asked = {false, false};
    context.order = random();

    std::vector<Buffer> memory;
    const bool bad_input = chance(random, 0.2);
    // On a GPU lengths are clamped by the core: nobody waits for them to be checked.
    if (bad_input) break_input(random, c, !on_gpu, inputs, context.inputs, memory);
    status = op.KernelComputeV2(kernel, &context);
    if (bad_input) {
        require_refused(status, info.node_name);
        require(!context.output_asked[0] && !context.output_asked[1],
                "outputs were made for inputs that do not fit");
        ++counts.refused;
        return;
    }
    require_ok(status);
    require(context.output_asked[0] && context.output_asked[1], "an output is missing");
    require(context.outputs[0].info.dimensions == std::vector<int64_t>({p.T, p.B, p.H}), "h shape");
    require(context.outputs[1].info.dimensions == std::vector<int64_t>({p.B, p.H}), "c_T shape");
    const std::string wrong = c.mismatch(answer, h.data(), c_T.data());
    require(wrong.empty(), "glue: " + wrong);
    ++(on_gpu ? counts.cuda : counts.glue);
    if (context.parallel_parts > 1) ++counts.parallel;
}

// Sizes up to the limit of int64 where another size is 0, so that no memory is needed.
void run_empty(Random& random) {
    const bool no_rows = chance(random, 0.5);
    const int64_t huge = int64_t{1} << uniform(random, 30, 60);
    const int64_t T = chance(random, 0.5) ? huge : uniform(random, 0, 9);
    const int64_t B = no_rows ? 0 : uniform(random, 1, 4);
    const int64_t H = no_rows ? huge : 0;
    const bool sru = chance(random, 0.5);
    const OrtCustomOp& op = find_op(sru ? "sru_input" : "fo", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    OrtKernelInfo info;
    info.node_name = "empty";
    void* kernel = nullptr;
    require_ok(op.CreateKernelV2(&op, &api(), &info, &kernel));
    const std::unique_ptr<void, decltype(op.KernelDestroy)> owner(kernel, op.KernelDestroy);
    Buffer lengths(random, B * 8);
    for (int64_t b = 0; b < B; ++b) std::memcpy(lengths.data() + b * 8, &T, 8);
    OrtValue gates = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {T, B, 3 * H}, {}}, nullptr};
    OrtValue c0 = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {B, H}, {}}, nullptr};
    OrtValue length_value = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, {B}, {}}, lengths.data()};
    // Of 2 H numbers that nothing reads, where H is huge and B is 0.
    OrtValue parameters = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {2, H}, {}}, nullptr};
    OrtValue skip = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {T, B, H}, {}}, nullptr};
    OrtKernelContext context;
    context.inputs = {&gates, &c0, &length_value};
    if (sru) context.inputs.insert(context.inputs.end(), {&parameters, &parameters, &skip});
    context.outputs.resize(2);
    for (OrtValue& value : context.outputs) {
        value.info.element = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    context.output_bytes = {0, 0};
    context.output_asked = {false, false};
    require_ok(op.KernelComputeV2(kernel, &context));
}

void run_inference(Random& random) {
    const OrtCustomOp& op =
        find_op(chance(random, 0.5) ? "ifo" : "sru_input", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    const auto element = chance(random, 0.5) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                             : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    OrtShapeInferContext context;
    const size_t ranks[] = {3, 2, 1, 2, 2, 3};
    context.inputs.resize(op.GetInputTypeCount(&op));
    context.outputs.resize(2);
    for (size_t i = 0; i < context.inputs.size(); ++i) {
        context.inputs[i].element = i == 0 ? element : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        const int64_t rank =
            chance(random, 0.8) ? static_cast<int64_t>(ranks[i]) : uniform(random, 0, 5);
        for (int64_t axis = 0; axis < rank; ++axis) {
            const int64_t kind = uniform(random, 0, 2);
            context.inputs[i].dimensions.push_back(kind == 0 ? uniform(random, 0, 12) : -1);
            context.inputs[i].names.push_back(kind == 1 ? "name" : "");
        }
    }
    require_ok(op.InferOutputShapeFn(&op, &context));
    for (size_t i = 0; i < 2; ++i) {
        require(context.outputs[i].has_value(), "an output was not inferred");
        const OrtTensorTypeAndShapeInfo& output = *context.outputs[i];
        require(output.element == (i == 0 ? element : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
                "inferred type");
        require(output.dimensions.size() == 3 - i && output.names.size() == 3 - i, "inferred rank");
        for (size_t axis = 0; axis < output.dimensions.size(); ++axis) {
            require((output.dimensions[axis] >= 0) == output.names[axis].empty(),
                    "a dimension needs a size or a name");
        }
    }
}

void run_case(Random& random, Counts& counts) {
    if (chance(random, 0.02)) {
        run_empty(random);
        ++counts.empty;
        return;
    }
    if (chance(random, 0.02)) {
        run_inference(random);
        ++counts.inferred;
        return;
    }
    const Case c(random);
    const reference::Answer answer = reference::solve(c.problem);
    try {
        run_core(random, c, answer);
        ++counts.core;
        run_glue(random, c, answer, counts);
    } catch (const Failure& failure) {
        throw Failure{failure.what + "\n  case: " + c.describe()};
    }
    if (chance(random, 0.05)) {
        std::vector<char> names(static_cast<size_t>(uniform(random, 0, 4000)));
        const size_t needed = qrnn_deploy_drain_created(names.data(), names.size());
        require(needed <= names.size() ? names[needed - 1] == '\0'
                                       : qrnn_deploy_drain_created(nullptr, 0) == needed,
                "drain");
    }
}

// A runtime that does not know our API version gets an error, not a crash.
void run_old_runtime() {
    OrtSessionOptions options;
    OrtStatus* status = RegisterCustomOps(&options, fake_ort::api_base(7));
    require(status != nullptr, "an old runtime was accepted");
    const std::string message = status->message;
    api().ReleaseStatus(status);
    fake_ort::api_base();
    require(message.find("upgrade onnxruntime") != std::string::npos, message);
}

}  // namespace
}  // namespace fuzz

int main(int argc, char** argv) {
    int64_t cases = 100000, seed = 1, only = -1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        const int64_t value = std::strtoll(argv[i + 1], nullptr, 10);
        if (option == "--cases") {
            cases = value;
        } else if (option == "--seed") {
            seed = value;
        } else if (option == "--only") {
            only = value;
        } else {
            std::fprintf(stderr, "usage: %s [--cases N] [--seed S] [--only INDEX]\n", argv[0]);
            return 2;
        }
    }
    fuzz::Counts counts;
    const int64_t begin = only >= 0 ? only : 0;
    const int64_t end = only >= 0 ? only + 1 : cases;
    int64_t index = begin;
    try {
        fuzz::run_old_runtime();
        for (; index < end; ++index) {
            std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(index)};
            fuzz::Random random(sequence);
            fuzz::run_case(random, counts);
            fuzz::require(fake_ort::live_objects() == 0, "an object of the runtime leaked");
            if ((index + 1) % std::max<int64_t>(1, cases / 10) == 0) {
                std::printf("%" PRId64 " of %" PRId64 " cases\n", index + 1, cases);
                std::fflush(stdout);
            }
        }
    } catch (const fuzz::Failure& failure) {
        std::printf("FAILED case %" PRId64 ": %s\n  again: %s --seed %" PRId64 " --only %" PRId64
                    "\n",
                    index, failure.what.c_str(), argv[0], seed, index);
        return 1;
    }
    std::printf("passed: %" PRId64 " core runs, %" PRId64 " glue runs (%" PRId64
                " on several threads), %" PRId64 " of the CUDA glue, %" PRId64
                " bad inputs refused, %" PRId64 " inferences, %" PRId64 " empty\n",
                counts.core, counts.glue, counts.parallel, counts.cuda, counts.refused,
                counts.inferred, counts.empty);
    return 0;
}
