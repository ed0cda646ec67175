// The CUDA side of the ONNX Runtime glue, in a runtime and with a GPU core of the tests' own. The
// "device memory" here are addresses that nothing may touch: whoever reads one crashes.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fake_gpu.h"
#include "fake_ort.h"

extern "C" {
OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);
size_t qrnn_deploy_drain_created(char* buffer, size_t size);
const char* qrnn_deploy_build_info(void);
}

namespace {

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kHalf = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
constexpr auto kBrain = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

int failures = 0;

void check(bool condition, const std::string& what) {
    if (condition) return;
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
}

const OrtApi& api() { return *fake_ort::api_base()->GetApi(ORT_API_VERSION); }

void* address(uintptr_t value) { return reinterpret_cast<void*>(value); }

// An empty string, or the message of the status, which is released.
std::string told(OrtStatus* status) {
    if (status == nullptr) return "";
    const std::string message = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    return message;
}

const std::vector<const OrtCustomOp*>& operators() {
    static OrtSessionOptions options;
    if (options.domains.empty()) {
        check(RegisterCustomOps(&options, fake_ort::api_base()) == nullptr, "registration");
    }
    return options.domains.at(0)->ops;
}

const OrtCustomOp& find_op(const std::string& name, ONNXTensorElementDataType element) {
    for (const OrtCustomOp* op : operators()) {
        if (op->GetName(op) == name && op->GetInputType(op, 0) == element &&
            op->GetExecutionProviderType(op) == std::string("CUDAExecutionProvider")) {
            return *op;
        }
    }
    std::printf("FAILED: no CUDA operator %s\n", name.c_str());
    std::exit(1);
}

// A node with its kernel, and a call of it with the sizes T, B and H.
struct Node {
    FakeArena arena{3};
    OrtKernelInfo info;
    const OrtCustomOp& op;
    void* kernel = nullptr;
    std::string refused;
    OrtValue gates, c0, lengths, weight_c, bias, skip;
    OrtKernelContext context;

    Node(const std::string& name, ONNXTensorElementDataType element, int64_t gate_count, int64_t T,
         int64_t B, int64_t H)
        : op(find_op(name, element)) {
        info.node_name = "pool_7";
        info.arena = &arena;
        gates = {{element, {T, B, gate_count * H}, {}}, address(0x1000)};
        c0 = {{kFloat, {B, H}, {}}, address(0x2000)};
        lengths = {{kInt64, {B}, {}}, address(0x3000)};
        weight_c = {{kFloat, {2, H}, {}}, address(0x7000)};
        bias = {{kFloat, {2, H}, {}}, address(0x8000)};
        skip = {{element, {T, B, H}, {}}, address(0x9000)};
        context.inputs = {&gates, &c0, &lengths, &weight_c, &bias, &skip};
        context.inputs.resize(op.GetInputTypeCount(&op));
        context.outputs = {{{element, {}, {}}, address(0x4000)},
                           {{kFloat, {}, {}}, address(0x5000)}};
        const auto size = static_cast<size_t>(B * H);
        context.output_bytes = {static_cast<size_t>(T) * size * fake_ort::element_size(element),
                                size * 4};
        context.output_asked = {false, false};
        context.arena = &arena;
        context.stream = address(0x6000);
        fake_gpu::state() = {};
    }
    ~Node() {
        if (kernel != nullptr) op.KernelDestroy(kernel);
    }
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    std::string create() { return told(op.CreateKernelV2(&op, &api(), &info, &kernel)); }
    std::string run() {
        const std::string message = kernel == nullptr ? create() : "";
        return message.empty() ? told(op.KernelComputeV2(kernel, &context)) : message;
    }
};

void every_operator_is_there_for_both_providers() {
    std::set<std::tuple<std::string, std::string, int>> found;
    for (const OrtCustomOp* op : operators()) {
        found.insert({op->GetName(op), op->GetExecutionProviderType(op), op->GetInputType(op, 0)});
        const std::string name = op->GetName(op);
        const size_t inputs = name == "SRUPoolInput" ? 6 : name.substr(0, 3) == "SRU" ? 5 : 3;
        check(op->GetInputTypeCount(op) == inputs && op->GetOutputTypeCount(op) == 2, "counts");
        check(op->GetInputType(op, 1) == kFloat && op->GetInputType(op, 2) == kInt64,
              "input types");
        check(op->GetOutputType(op, 0) == op->GetInputType(op, 0), "type of h");
        check(op->GetOutputType(op, 1) == kFloat, "type of c_T");
        for (size_t i = 3; i < inputs; ++i) {
            check(op->GetInputType(op, i) == (i == 5 ? op->GetInputType(op, 0) : kFloat),
                  "types of an SRU's inputs");
        }
        for (size_t i = 0; i < inputs; ++i) {
            check(op->GetInputMemoryType(op, i) == OrtMemTypeDefault, "inputs on the device");
        }
    }
    check(found.size() == operators().size(), "an operator is registered twice");
    for (const char* name : {"QRNNPoolF", "QRNNPoolFO", "QRNNPoolIFO", "QRNNPoolIF", "SRUPool",
                             "SRUPoolInput", "SRUPoolNoSkip"}) {
        for (const char* provider : {"CPUExecutionProvider", "CUDAExecutionProvider"}) {
            for (const int element : {int{kFloat}, int{kHalf}, int{kBrain}}) {
                check(found.count({name, provider, element}) == 1, std::string(name) + provider);
            }
        }
    }
}

void pointers_and_stream_go_through() {
    const std::tuple<const char*, ONNXTensorElementDataType, int, qrnn::Pooling, qrnn::Storage>
        cases[] = {
            {"QRNNPoolF", kFloat, 2, qrnn::Pooling::kF, qrnn::Storage::kFloat32},
            {"QRNNPoolFO", kHalf, 3, qrnn::Pooling::kFO, qrnn::Storage::kFloat16},
            {"QRNNPoolIFO", kBrain, 4, qrnn::Pooling::kIFO, qrnn::Storage::kBFloat16},
            {"QRNNPoolIF", kFloat, 3, qrnn::Pooling::kIF, qrnn::Storage::kFloat32},
            {"SRUPool", kHalf, 4, qrnn::Pooling::kSRU, qrnn::Storage::kFloat16},
            {"SRUPoolInput", kBrain, 3, qrnn::Pooling::kSRUInput, qrnn::Storage::kBFloat16},
            {"SRUPoolNoSkip", kFloat, 3, qrnn::Pooling::kSRUNoSkip, qrnn::Storage::kFloat32}};
    for (const auto& [name, element, gate_count, pooling, storage] : cases) {
        Node node(name, element, gate_count, 5, 4, 6);
        node.info.attributes["direction"] = int64_t{-1};
        node.info.attributes["activation"] = std::string("relu");
        check(node.run().empty(), name);
        check(fake_gpu::state().call.has_value(), std::string(name) + ": no call");
        if (!fake_gpu::state().call.has_value()) continue;
        const fake_gpu::Call& call = *fake_gpu::state().call;
        const qrnn::PoolArguments& a = call.arguments;
        check(a.pooling == pooling && a.storage == storage, std::string(name) + ": types");
        check(a.reverse && a.activation == qrnn::Activation::kRelu, "attributes");
        check(a.steps == 5 && a.batch == 4 && a.hidden == 6, "sizes");
        check(a.gates == address(0x1000) && a.c0 == address(0x2000), "gates, c0");
        check(a.lengths == address(0x3000), "lengths");
        const bool sru = qrnn::is_sru(pooling);
        check(a.weight_c == (sru ? address(0x7000) : nullptr), "weight_c");
        check(a.bias == (sru ? address(0x8000) : nullptr), "bias");
        check(a.skip == (qrnn::reads_skip(pooling) ? address(0x9000) : nullptr), "skip");
        check(a.h == address(0x4000) && a.c_T == address(0x5000), "outputs");
        check(call.stream == address(0x6000), "stream");
        check(call.device.multiprocessors == 132 && call.device.compute_capability == 90, "device");
        check(node.context.output_asked[0] && node.context.output_asked[1], "outputs made");
        check(fake_gpu::state().current_device == 3, "the arena's device is made current");
    }
}

void workspace_is_what_the_core_asks_for() {
    {
        Node step("QRNNPoolFO", kFloat, 3, 1, 32, 640);  // streaming
        check(step.run().empty(), "a step");
        check(step.context.scratch_taken.empty(), "a step takes no memory");
        check(fake_gpu::state().call->workspace == nullptr, "a step has no workspace");
    }
    {
        Node sru("SRUPool", kFloat, 4, 8192, 1, 64);  // its time cannot be split
        check(sru.run().empty(), "an SRU");
        check(sru.context.scratch_taken.empty(), "an SRU takes no memory");
        check(fake_gpu::state().call->arguments.activation == qrnn::Activation::kIdentity,
              "an SRU's default activation");
    }
    Node node("QRNNPoolFO", kFloat, 3, 8192, 1, 64);  // few lanes, long T
    check(node.run().empty(), "a long sequence");
    const fake_gpu::Call call = *fake_gpu::state().call;
    const size_t wanted = qrnn::gpu_workspace_bytes(call.arguments, call.device);
    check(wanted > 0, "the long sequence wants no workspace: this test needs another shape");
    check(node.context.scratch_taken == std::vector<size_t>{wanted}, "size of the workspace");
    check(call.workspace != nullptr && call.workspace_bytes == wanted, "workspace handed on");

    node.context.stream = nullptr;  // the runtime can tie memory to no stream
    check(node.run().empty(), "without a stream");
    check(node.context.scratch_taken.size() == 1, "scratch memory without a stream");
    check(fake_gpu::state().call->workspace == nullptr, "a workspace without a stream");
    check(fake_gpu::state().call->workspace_bytes == 0, "bytes of no workspace");

    node.context.stream = address(0x6000);
    node.context.no_scratch = true;
    fake_gpu::state().call.reset();
    check(node.run() == "no memory", "the runtime's reason is kept");
    check(!fake_gpu::state().call.has_value(), "launched without its workspace");
}

void require_told(const std::string& message, const std::vector<std::string>& parts) {
    check(message.find('\n') == std::string::npos, "several lines: " + message);
    for (const std::string& part : parts) {
        check(message.find(part) != std::string::npos, "no '" + part + "' in: " + message);
    }
}

void errors_are_statuses() {
    const std::string where = "QRNNPoolFO 'pool_7'";
    {
        Node node("QRNNPoolFO", kFloat, 3, 8192, 1, 64);  // with a workspace, which is given back
        check(node.create().empty(), "creation");
        fake_gpu::state().pool_result = cudaErrorLaunchFailure;
        require_told(node.run(),
                     {where, "cudaErrorLaunchFailure", "unspecified launch failure", "device 3"});
        fake_gpu::state().pool_result = cudaErrorNoKernelImageForDevice;
        require_told(node.run(),
                     {where, "cudaErrorNoKernelImageForDevice", "compiled for", "build"});
        fake_gpu::state().pool_result = cudaSuccess;
        check(node.run().empty(), "after an error");
        fake_gpu::state().device_result = cudaErrorLaunchFailure;
        require_told(node.run(), {where, "cudaErrorLaunchFailure"});
    }
    {
        Node node("QRNNPoolFO", kFloat, 3, 5, 4, 6);
        node.c0.info.dimensions = {3, 6};
        require_told(node.run(), {where, "batch size 4", "c0 3"});
        check(!fake_gpu::state().call.has_value(), "launched with inputs that do not fit");
        check(!node.context.output_asked[0], "an output for inputs that do not fit");
    }
    const auto refused = [](const std::function<void(Node&)>& spoil,
                            const std::vector<std::string>& parts) {
        Node node("SRUPoolInput", kFloat, 3, 5, 4, 6);
        spoil(node);
        require_told(node.run(), parts);
        check(!fake_gpu::state().call.has_value(), "launched with inputs that do not fit");
    };
    const std::string sru = "SRUPoolInput 'pool_7': input ";
    refused([](Node& node) { node.weight_c.info.dimensions = {2, 5}; },
            {sru + "weight_c [2, H] has the shape [2, 5], expected [2, 6] for the hidden size 6"});
    refused([](Node& node) { node.bias.info.dimensions = {6, 2}; },
            {sru + "bias [2, H] has the shape [6, 2], expected [2, 6]"});
    refused([](Node& node) { node.bias.info.dimensions = {12}; },
            {sru + "bias [2, H] has 1 dimensions, expected 2"});
    refused([](Node& node) { node.skip.info.dimensions = {5, 4, 7}; },
            {sru + "skip [T, B, H] has the shape [5, 4, 7], expected [5, 4, 6] as h"});
    refused([](Node& node) { node.skip.info.element = kHalf; },
            {sru + "skip [T, B, H] is float16, expected float32"});
    refused([](Node& node) { node.weight_c.info.element = kBrain; },
            {sru + "weight_c [2, H] is bfloat16, expected float32"});
    refused([](Node& node) { node.context.inputs[5] = nullptr; },
            {sru + "skip [T, B, H] is missing"});
    {
        Node node("SRUPool", kFloat, 4, 5, 4, 6);
        node.info.attributes["zoneout_scale"] = 0.5f;
        require_told(node.run(), {"SRUPool 'pool_7'", "is 0.5, expected 1: an SRU has no zoneout"});
    }
    {
        Node node("QRNNPoolFO", kFloat, 3, 5, 4, 6);
        node.info.attributes["direction"] = int64_t{2};
        require_told(node.run(), {where, "direction is 2"});
        check(node.kernel == nullptr, "a refused node has a kernel");
    }
    {
        Node node("QRNNPoolFO", kFloat, 3, 5, 4, 6);
        node.info.arena = nullptr;
        check(node.run() == "No requested allocator available", "the runtime's reason is kept");
    }
}

void kernels_are_counted_with_their_device() {
    char text[64];
    qrnn_deploy_drain_created(nullptr, 0);
    std::string all(1 << 12, '\0');
    qrnn_deploy_drain_created(all.data(), all.size());
    Node node("QRNNPoolIF", kHalf, 3, 1, 1, 1);
    check(node.create().empty(), "creation");
    qrnn_deploy_drain_created(text, sizeof text);
    check(text == std::string("cuda pool_7"), std::string("the record says ") + text);
}

void build_info_names_the_gpus() {
    const std::string info = qrnn_deploy_build_info();
    check(info.find("\"cuda\": {\"version\": \"") != std::string::npos, info);
    check(info.find("\"architectures\": \"sm_") != std::string::npos, info);
}

}  // namespace

int main() {
    every_operator_is_there_for_both_providers();
    pointers_and_stream_go_through();
    workspace_is_what_the_core_asks_for();
    errors_are_statuses();
    kernels_are_counted_with_their_device();
    build_info_names_the_gpus();
    check(fake_ort::live_objects() == 0, "an object of the runtime leaked");
    if (failures == 0) std::printf("passed\n");
    return failures == 0 ? 0 : 1;
}
