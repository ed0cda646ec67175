// Every kernel against the double reference, each array in a device allocation of exactly its
// size, so that compute-sanitizer sees a step beyond it. Without PyTorch.
//
//   gpu_check            all poolings, storage types and regimes; exit status 1 on a difference
//   gpu_check --quick    fewer shapes, for racecheck
//   gpu_check --errors   what CUDA refuses is returned (not under memcheck, which reports it)
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "pool_gpu.h"
#include "reference.h"
#include "storage_bits.h"

namespace {

using qrnn::GpuRegime;
using qrnn::Pooling;
using qrnn::Storage;

void require(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(3);
}

class DeviceArray {
  public:
    explicit DeviceArray(size_t bytes) : bytes_(bytes) {
        require(cudaMalloc(&data_, bytes), "cudaMalloc");
        require(cudaMemset(data_, 0xff, bytes), "cudaMemset");
    }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    void* data() const { return data_; }
    template <class T>
    void set(const std::vector<T>& from) {
        require(cudaMemcpy(data_, from.data(), bytes_, cudaMemcpyHostToDevice), "copy in");
    }
    template <class T>
    void get(std::vector<T>& to) const {
        require(cudaMemcpy(to.data(), data_, bytes_, cudaMemcpyDeviceToHost), "copy out");
    }

  private:
    void* data_ = nullptr;
    size_t bytes_;
};

struct Shape {
    int64_t T, B, H;
};

struct Kind {
    Pooling pooling;
    const char* name;
};
constexpr Kind kKinds[] = {{Pooling::kF, "f"},
                           {Pooling::kFO, "fo"},
                           {Pooling::kIFO, "ifo"},
                           {Pooling::kIF, "if"},
                           {Pooling::kSRU, "sru"},
                           {Pooling::kSRUInput, "sru_input"},
                           {Pooling::kSRUNoSkip, "sru_noskip"}};
constexpr const char* kRegimes[] = {"step", "walk", "scan", "chain"};
constexpr const char* kStorages[] = {"float32", "float16", "bfloat16"};

// Twice the documented error of tanh.approx, which the 16-bit kernels use.
constexpr double kHardwareTanh = 0x1p-10;

int differences = 0;
int runs = 0;

void check(const Kind& kind, Storage storage, const Shape& shape, bool reverse,
           const qrnn::GpuPlan& plan) {
    const auto format = storage_bits::format_of(storage);
    reference::Problem p;
    p.pooling = kind.name;
    p.activation = "tanh";
    p.reverse = reverse;
    p.T = shape.T;
    p.B = shape.B;
    p.H = shape.H;
    std::mt19937 random(static_cast<unsigned>(shape.T * 31 + shape.H));
    std::normal_distribution<double> normal(0.0, 2.0);
    std::vector<char> gates(p.T * p.B * p.gate_count() * p.H * format.bytes);
    p.gates.resize(gates.size() / format.bytes);
    for (size_t i = 0; i < p.gates.size(); ++i) {
        storage_bits::write(format, &gates[i * format.bytes], normal(random));
        p.gates[i] = storage_bits::read(format, &gates[i * format.bytes]);
    }
    std::vector<float> state(p.B * p.H);
    for (float& x : state) x = static_cast<float>(normal(random) / 2);
    p.c0.assign(state.begin(), state.end());
    for (int64_t b = 0; b < p.B; ++b) p.lengths.push_back(b == 1 ? 0 : p.T - b * p.T / p.B);
    std::vector<float> weight_c(2 * p.H), bias(2 * p.H);
    for (float& x : weight_c) x = static_cast<float>(normal(random) / 4);
    for (float& x : bias) x = static_cast<float>(normal(random) / 4);
    p.weight_c.assign(weight_c.begin(), weight_c.end());
    p.bias.assign(bias.begin(), bias.end());
    std::vector<char> skip(p.T * p.B * p.H * format.bytes);
    p.skip.resize(skip.size() / format.bytes);
    for (size_t i = 0; i < p.skip.size(); ++i) {
        storage_bits::write(format, &skip[i * format.bytes], normal(random));
        p.skip[i] = storage_bits::read(format, &skip[i * format.bytes]);
    }
    const reference::Answer answer = reference::solve(p);

    qrnn::PoolArguments a;
    a.pooling = kind.pooling;
    a.storage = storage;
    a.reverse = reverse;
    a.steps = p.T;
    a.batch = p.B;
    a.hidden = p.H;
    std::vector<char> h(p.T * p.B * p.H * format.bytes);
    DeviceArray device_gates(gates.size()), device_state(state.size() * 4),
        device_lengths(p.lengths.size() * 8), device_h(h.size()),
        device_weight_c(weight_c.size() * 4), device_bias(bias.size() * 4),
        device_skip(skip.size());
    device_gates.set(gates);
    device_state.set(state);
    device_lengths.set(p.lengths);
    device_weight_c.set(weight_c);
    device_bias.set(bias);
    device_skip.set(skip);
    a.weight_c = device_weight_c.data();
    a.bias = device_bias.data();
    a.skip = device_skip.data();
    a.gates = device_gates.data();
    a.c0 = device_state.data();
    a.lengths = device_lengths.data();
    a.h = device_h.data();
    a.c_T = device_state.data();  // in place: the harder case
    const size_t bytes =
        qrnn::chain_layout(p.T, p.B, p.H, plan.channels_per_thread, plan.warps).bytes;
    DeviceArray workspace(bytes);
    require(qrnn::pool_on_gpu(a, plan, workspace.data(), bytes, nullptr), "launch");
    require(cudaDeviceSynchronize(), "kernel");
    device_h.get(h);
    device_state.get(state);

    const double tanh_error = storage == Storage::kFloat32 ? 0.0 : kHardwareTanh;
    double worst = 0.0;
    for (size_t i = 0; i < answer.h.size(); ++i) {
        const double got = storage_bits::read(format, &h[i * format.bytes]);
        const double allowed = 4.0 * answer.h_bound[i] + 4e-6 + 4.0 * tanh_error +
                               format.half_unit() * std::fabs(answer.h[i]) + format.smallest();
        const double error = std::fabs(got - answer.h[i]) / allowed;
        worst = error <= worst ? worst : error;  // NaN is the worst
    }
    for (size_t i = 0; i < state.size(); ++i) {
        const double allowed = 4.0 * answer.c_bound[i] + 4e-6 + 4.0 * tanh_error;
        const double error = std::fabs(state[i] - answer.c_T[i]) / allowed;
        worst = error <= worst ? worst : error;
    }
    ++runs;
    if (!(worst <= 1.0)) {
        ++differences;
        std::printf("FAILED %s %s %s T=%lld B=%lld H=%lld channels=%d warps=%d: %g of the bound\n",
                    kind.name, kStorages[static_cast<int>(storage)],
                    kRegimes[static_cast<int>(plan.regime)], static_cast<long long>(p.T),
                    static_cast<long long>(p.B), static_cast<long long>(p.H),
                    plan.channels_per_thread, plan.warps, worst);
    }
}

// By every regime, into a capture that a call which is not allowed there has broken.
void check_errors() {
    constexpr int64_t kMost = 300 * 64;
    DeviceArray gates(kMost * 3 * 4), state(64 * 4), lengths(8), h(kMost * 4), workspace(1 << 20);
    lengths.set(std::vector<int64_t>{300});
    for (GpuRegime regime :
         {GpuRegime::kStep, GpuRegime::kWalk, GpuRegime::kScan, GpuRegime::kChain}) {
        qrnn::PoolArguments a;
        a.steps = regime == GpuRegime::kStep ? 1 : 300;
        a.batch = 1;
        a.hidden = 64;
        a.gates = gates.data();
        a.c0 = state.data();
        a.lengths = lengths.data();
        a.h = h.data();
        a.c_T = state.data();
        cudaStream_t stream = nullptr;
        cudaGraph_t graph = nullptr;
        require(cudaStreamCreate(&stream), "stream");
        require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
        const bool broken = cudaStreamSynchronize(stream) != cudaSuccess;
        const cudaError_t error =
            qrnn::pool_on_gpu(a, {regime, 1, 2}, workspace.data(), 1 << 20, stream);
        cudaStreamEndCapture(stream, &graph);
        cudaGetLastError();
        require(cudaStreamDestroy(stream), "destroy");
        ++runs;
        if (!broken || error == cudaSuccess || error == cudaErrorInvalidValue) {
            ++differences;
            std::printf("FAILED %s in a broken capture: %s\n", kRegimes[static_cast<int>(regime)],
                        cudaGetErrorString(error));
        }
    }
    check(kKinds[1], Storage::kFloat32, {70, 3, 33}, false, {GpuRegime::kScan, 1, 2});
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "--errors") == 0) {
        check_errors();
        std::printf("%d runs, %d differ\n", runs, differences);
        return differences == 0 ? 0 : 1;
    }
    const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
    // Whole and partial warps, odd H, several chunks, more chunks than between two anchors.
    std::vector<Shape> shapes = {{1, 3, 70}, {70, 3, 33}, {300, 2, 46}};
    if (!quick) shapes.insert(shapes.end(), {{1, 2, 5}, {9, 1, 1}, {600, 1, 130}, {2500, 1, 34}});
    for (const Kind& kind : kKinds) {
        if (quick && kind.pooling != Pooling::kFO && kind.pooling != Pooling::kSRUInput) continue;
        for (Storage storage : {Storage::kFloat32, Storage::kFloat16, Storage::kBFloat16}) {
            for (const Shape& shape : shapes) {
                for (GpuRegime regime :
                     {GpuRegime::kStep, GpuRegime::kWalk, GpuRegime::kScan, GpuRegime::kChain}) {
                    for (int channels : {1, 2}) {
                        for (int warps : {1, 8}) {
                            qrnn::PoolArguments sizes;
                            sizes.pooling = kind.pooling;
                            sizes.storage = storage;
                            sizes.steps = shape.T;
                            sizes.hidden = shape.H;
                            const qrnn::GpuPlan plan = {regime, channels, warps};
                            if (!qrnn::plan_fits(plan, sizes)) continue;
                            check(kind, storage, shape, warps == 8, plan);
                        }
                    }
                }
            }
        }
    }
    std::printf("%d runs, %d differ\n", runs, differences);
    return differences == 0 && runs > 0 ? 0 : 1;
}
