// The built plugin library as TensorRT uses it: loaded, asked for its creators, its plugins
// enqueued with device buffers. Without a GPU, enqueue must fail with one line; with one, the
// answers are compared with a plain loop in double, also from a captured CUDA graph.
//
//   qrnn_deploy_trt_enqueue_test LIBRARY
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cmath>
#include <cstring>

#include "reference.h"
#include "storage_bits.h"
#include "trt_fakes.h"

namespace {

using namespace trt_fakes;
using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

Logger logger;
nvinfer1::IPluginCreatorInterface* const* creators = nullptr;
int32_t creator_count = 0;

#define CUDA(call) CHECK((call) == cudaSuccess, "%s", cudaGetErrorString(cudaGetLastError()))

// Device memory, with a guard behind it that a kernel must not touch.
class Buffer {
  public:
    static constexpr size_t kGuard = 256;

    explicit Buffer(size_t bytes) : bytes_(bytes) {
        CUDA(cudaMalloc(&data_, bytes + kGuard));
        CUDA(cudaMemset(data_, 0xa5, bytes + kGuard));
    }
    ~Buffer() { cudaFree(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void* data() const { return data_; }
    void write(const void* from) { CUDA(cudaMemcpy(data_, from, bytes_, cudaMemcpyDefault)); }
    std::vector<char> read() const {
        std::vector<char> all(bytes_ + kGuard);
        CUDA(cudaMemcpy(all.data(), data_, all.size(), cudaMemcpyDefault));
        for (size_t i = bytes_; i < all.size(); ++i) {
            CHECK(all[i] == '\xa5', "byte %zu behind the buffer was written", i - bytes_);
        }
        all.resize(bytes_);
        return all;
    }

  private:
    size_t bytes_;
    void* data_ = nullptr;
};

struct Case {
    const char* op;
    const char* pooling;
    DataType type;
    qrnn::Storage storage;
    int32_t direction;
    int64_t T, B, H;
};

reference::Problem problem_of(const Case& c) {
    reference::Problem p;
    p.pooling = c.pooling;
    p.activation = "tanh";
    p.reverse = c.direction == -1;
    p.T = c.T;
    p.B = c.B;
    p.H = c.H;
    const auto format = storage_bits::format_of(c.storage);
    std::vector<char> bits(4);
    p.gates.resize(c.T * c.B * p.gate_count() * c.H);
    for (size_t i = 0; i < p.gates.size(); ++i) {
        storage_bits::write(format, bits.data(), 3.0 * std::sin(0.7 * static_cast<double>(i)));
        p.gates[i] = storage_bits::read(format, bits.data());
    }
    for (int64_t i = 0; i < c.B * c.H; ++i) p.c0.push_back(static_cast<float>(std::cos(1.1 * i)));
    for (int64_t b = 0; b < c.B; ++b) p.lengths.push_back(b % 3 == 2 ? c.T / 2 : c.T);
    for (int64_t i = 0; i < 2 * c.H; ++i) {
        p.weight_c.push_back(static_cast<float>(std::sin(1.3 * i)));
        p.bias.push_back(static_cast<float>(std::cos(0.9 * i)));
    }
    for (int64_t i = 0; i < c.T * c.B * c.H; ++i) {
        storage_bits::write(format, bits.data(), std::sin(0.3 * static_cast<double>(i)));
        p.skip.push_back(storage_bits::read(format, bits.data()));
    }
    return p;
}

// The largest error as a share of what is allowed; NaN where a value is NaN.
double worst_share(const Case& c, const std::vector<char>& got, const std::vector<double>& expected,
                   const std::vector<double>& bound, qrnn::Storage storage) {
    const auto format = storage_bits::format_of(storage);
    // The bound is the CPU's, for activations of 1e-6; the GPU's are looser in 16 bits
    // (tanh 2^-11), and T steps may keep what each adds.
    const double loose = storage == qrnn::Storage::kFloat32 ? 4.0 : 0.0;
    double worst = 0.0;
    for (size_t i = 0; i < expected.size(); ++i) {
        const double value = storage_bits::read(format, &got[i * format.bytes]);
        const double allowed =
            c.storage == qrnn::Storage::kFloat32
                ? loose * bound[i] + 1e-6
                : 4e-3 + (storage == c.storage ? format.half_unit() * std::fabs(expected[i]) : 0.0);
        const double share = std::fabs(value - expected[i]) / allowed;
        if (!(share <= worst)) worst = share;
        if (std::isnan(worst)) break;
    }
    return worst;
}

void compare(const char* what, const Case& c, const std::vector<char>& got,
             const std::vector<double>& expected, const std::vector<double>& bound,
             qrnn::Storage storage) {
    const double worst = worst_share(c, got, expected, bound, storage);
    CHECK(worst <= 1.0, "%s of %s, T=%d: %.2f times what is allowed", what, c.op,
          static_cast<int>(c.T), worst);
}

// The comparison itself: an answer of NaN is wrong wherever it stands.
void test_comparison() {
    const Case c = {"QRNNPoolF", "f", DataType::kFLOAT, qrnn::Storage::kFloat32, 1, 1, 1, 3};
    const std::vector<double> expected(3, 0.5), bound(3, 1e-7);
    for (int wrong = -1; wrong < 3; ++wrong) {
        std::vector<char> got(12);
        for (int i = 0; i < 3; ++i) {
            const float value = i == wrong ? NAN : 0.5f;
            std::memcpy(&got[4 * i], &value, sizeof value);
        }
        const bool passes = worst_share(c, got, expected, bound, c.storage) <= 1.0;
        CHECK(passes == (wrong < 0), "NaN at %d", wrong);
    }
}

void run_case(const Case& c, cudaStream_t stream, bool captured) {
    nvinfer1::IPluginCreatorV3One* creator = find_creator(creators, creator_count, c.op);
    const PluginField field[] = {{"direction", &c.direction, PluginFieldType::kINT32, 1},
                                 {"activation", "tanh", PluginFieldType::kCHAR, 4}};
    const nvinfer1::PluginFieldCollection fields = {2, field};
    const Parts parts(creator->createPlugin("on_gpu", &fields, TensorRTPhase::kBUILD));
    CHECK(parts.plugin != nullptr, "%s", logger.errors.c_str());
    if (parts.plugin == nullptr) return;

    const reference::Problem p = problem_of(c);
    const reference::Answer answer = reference::solve(p);
    const auto format = storage_bits::format_of(c.storage);
    const auto stored = [&](const std::vector<double>& values) {
        std::vector<char> bits(values.size() * format.bytes);
        for (size_t i = 0; i < values.size(); ++i) {
            storage_bits::write(format, &bits[i * format.bytes], values[i]);
        }
        return bits;
    };
    const auto floats = [](const std::vector<double>& values) {
        return std::vector<float>(values.begin(), values.end());
    };
    const std::vector<char> gate_bits = stored(p.gates), skip_bits = stored(p.skip);
    Buffer gates(gate_bits.size()), c0(p.c0.size() * 4), lengths(p.lengths.size() * 8);
    Buffer h(answer.h.size() * format.bytes), c_T(p.c0.size() * 4);
    Buffer weight_c(2 * c.H * 4), bias(2 * c.H * 4), skip(skip_bits.size());
    gates.write(gate_bits.data());
    c0.write(floats(p.c0).data());
    lengths.write(p.lengths.data());
    weight_c.write(floats(p.weight_c).data());
    bias.write(floats(p.bias).data());
    skip.write(skip_bits.data());

    const int64_t columns = p.gate_count() * c.H;
    const nvinfer1::PluginTensorDesc in[] = {
        tensor({c.T, c.B, columns}, c.type), tensor({c.B, c.H}, DataType::kFLOAT),
        tensor({c.B}, DataType::kINT64),     tensor({2, c.H}, DataType::kFLOAT),
        tensor({2, c.H}, DataType::kFLOAT),  tensor({c.T, c.B, c.H}, c.type)};
    const int32_t count = !p.is_sru() ? 3 : p.pooling == "sru_input" ? 6 : 5;
    const nvinfer1::PluginTensorDesc out[] = {tensor({c.T, c.B, c.H}, c.type),
                                              tensor({c.B, c.H}, DataType::kFLOAT)};
    nvinfer1::DynamicPluginTensorDesc largest[6] = {};
    for (int i = 0; i < count; ++i) {
        largest[i].desc = in[i];
        largest[i].max = in[i].dims;
    }
    nvinfer1::DynamicPluginTensorDesc outputs_largest[2] = {};
    CHECK(parts.build->configurePlugin(largest, count, outputs_largest, 2) == 0, "%s",
          logger.errors.c_str());
    Buffer workspace(parts.build->getWorkspaceSize(largest, count, outputs_largest, 2));
    const void* inputs[] = {gates.data(),    c0.data(),   lengths.data(),
                            weight_c.data(), bias.data(), skip.data()};
    void* outputs[] = {h.data(), c_T.data()};
    CHECK(parts.runtime->onShapeChange(in, count, out, 2) == 0, "%s", logger.errors.c_str());

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    if (captured) CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(parts.runtime->enqueue(in, out, inputs, outputs, workspace.data(), stream) == 0, "%s",
          logger.errors.c_str());
    if (captured) {
        CUDA(cudaStreamEndCapture(stream, &graph));
        CUDA(cudaGraphInstantiate(&executable, graph, 0));
        for (int i = 0; i < 3; ++i) CUDA(cudaGraphLaunch(executable, stream));
    }
    CUDA(cudaStreamSynchronize(stream));
    if (captured) {
        CUDA(cudaGraphExecDestroy(executable));
        CUDA(cudaGraphDestroy(graph));
    }
    compare("h", c, h.read(), answer.h, answer.h_bound, c.storage);
    compare("c_T", c, c_T.read(), answer.c_T, answer.c_bound, qrnn::Storage::kFloat32);
    workspace.read();
}

void test_with_gpu() {
    cudaStream_t stream = nullptr;
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const struct {
        DataType type;
        qrnn::Storage storage;
    } types[] = {{DataType::kFLOAT, qrnn::Storage::kFloat32},
                 {DataType::kHALF, qrnn::Storage::kFloat16},
                 {DataType::kBF16, qrnn::Storage::kBFloat16}};
    const char* const ops[][2] = {{"QRNNPoolF", "f"},
                                  {"QRNNPoolFO", "fo"},
                                  {"QRNNPoolIFO", "ifo"},
                                  {"QRNNPoolIF", "if"},
                                  {"SRUPool", "sru"},
                                  {"SRUPoolInput", "sru_input"},
                                  {"SRUPoolNoSkip", "sru_noskip"}};
    // One step, many lanes, fewer lanes, few lanes and long T, odd sizes.
    const int64_t shapes[][3] = {{1, 4, 130}, {9, 64, 256}, {65, 3, 129}, {3000, 1, 40}};
    int runs = 0;
    for (const auto& op : ops) {
        for (const auto& type : types) {
            for (int32_t direction : {1, -1}) {
                for (const auto& shape : shapes) {
                    const Case c = {op[0],     op[1],    type.type, type.storage,
                                    direction, shape[0], shape[1],  shape[2]};
                    run_case(c, stream, false);
                    run_case(c, stream, true);
                    runs += 2;
                }
            }
        }
    }
    CUDA(cudaStreamDestroy(stream));
    CHECK(logger.quiet(), "%s", logger.errors.c_str());
    std::printf("%d runs on the GPU\n", runs);
}

void test_without_gpu() {
    const nvinfer1::PluginFieldCollection none = {0, nullptr};
    const Parts parts(find_creator(creators, creator_count, "QRNNPoolFO")
                          ->createPlugin("no_gpu", &none, TensorRTPhase::kRUNTIME));
    const nvinfer1::PluginTensorDesc in[] = {tensor({3, 2, 12}, DataType::kFLOAT),
                                             tensor({2, 4}, DataType::kFLOAT),
                                             tensor({2}, DataType::kINT64)};
    const nvinfer1::PluginTensorDesc out[] = {tensor({3, 2, 4}, DataType::kFLOAT),
                                              tensor({2, 4}, DataType::kFLOAT)};
    char memory[8];
    const void* inputs[] = {memory, memory, memory};
    void* outputs[] = {memory, memory};
    CHECK(parts.runtime->enqueue(in, out, inputs, outputs, nullptr, nullptr) != 0, "it succeeded");
    CHECK(logger.told("QRNNPoolFO 'no_gpu': the GPU cannot be used: "), "no message");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::printf("FAILED dlopen: %s\n", dlerror());
        return 1;
    }
    using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&);
    using SetLoggerFinder = void (*)(nvinfer1::ILoggerFinder*);
    const auto get_creators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    const auto set_finder = reinterpret_cast<SetLoggerFinder>(dlsym(library, "setLoggerFinder"));
    if (get_creators == nullptr || set_finder == nullptr) {
        std::printf("FAILED: getCreators or setLoggerFinder is not exported\n");
        return 1;
    }
    Finder finder(&logger);
    set_finder(&finder);
    creators = get_creators(creator_count);
    CHECK(creator_count == 7, "%d creators", creator_count);

    test_comparison();
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) {
        test_with_gpu();
    } else {
        test_without_gpu();
        std::printf("no GPU here: only that enqueue says so\n");
    }
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
