// The SRU kernels of the GPU on the host, against the double reference; that a plan never splits
// their time; and which plans there are. (The kernels of QRNN pooling: tests/test_gpu_core.py.)
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "gpu_emulation.h"
#include "reference.h"
#include "storage_bits.h"

namespace {

using qrnn::GpuPlan;
using qrnn::GpuRegime;
using qrnn::Pooling;
using qrnn::Storage;

int failures = 0;

#define CHECK(condition, ...)                       \
    do {                                            \
        if (!(condition) && ++failures <= 20) {     \
            std::printf("FAILED %s: ", #condition); \
            std::printf(__VA_ARGS__);               \
            std::printf("\n");                      \
        }                                           \
    } while (false)

constexpr struct {
    Pooling pooling;
    const char* name;
} kKinds[] = {
    {Pooling::kSRU, "sru"}, {Pooling::kSRUInput, "sru_input"}, {Pooling::kSRUNoSkip, "sru_noskip"}};
constexpr Storage kStorages[] = {Storage::kFloat32, Storage::kFloat16, Storage::kBFloat16};
constexpr const char* kActivations[] = {"tanh", "relu", "identity"};

// A random problem; what lies beyond the lengths is NaN, which must reach nothing.
struct Inputs {
    reference::Problem p;
    storage_bits::Format format;
    std::vector<char> gates, skip;
    std::vector<float> c0, weight_c, bias;
    qrnn::PoolArguments a;

    Inputs(int kind, Storage storage, int activation, bool reverse, int64_t T, int64_t B, int64_t H)
        : format(storage_bits::format_of(storage)) {
        p.pooling = kKinds[kind].name;
        p.activation = kActivations[activation];
        p.reverse = reverse;
        p.T = T;
        p.B = B;
        p.H = H;
        std::mt19937 random(static_cast<unsigned>(T * 31 + H));
        std::normal_distribution<double> normal(0.0, 1.5);
        for (int64_t b = 0; b < B; ++b) p.lengths.push_back(b % 3 == 1 ? 0 : T - b * T / B);
        const auto store = [&](std::vector<char>& bytes, std::vector<double>& values, int64_t row) {
            bytes.resize(T * B * row * format.bytes);
            for (int64_t i = 0; i < T * B * row; ++i) {
                const bool beyond = i / (B * row) >= p.lengths[i / row % B];
                storage_bits::write(format, &bytes[i * format.bytes],
                                    beyond ? std::nan("") : normal(random));
                values.push_back(storage_bits::read(format, &bytes[i * format.bytes]));
            }
        };
        const auto fill = [&](std::vector<float>& floats, std::vector<double>& values, int64_t n) {
            for (int64_t i = 0; i < n; ++i) {
                floats.push_back(static_cast<float>(normal(random) / 2));
                values.push_back(floats.back());
            }
        };
        store(gates, p.gates, p.gate_count() * H);
        store(skip, p.skip, H);
        fill(c0, p.c0, B * H);
        fill(weight_c, p.weight_c, 2 * H);
        fill(bias, p.bias, 2 * H);
        a.pooling = kKinds[kind].pooling;
        a.activation = static_cast<qrnn::Activation>(activation);
        a.storage = storage;
        a.reverse = reverse;
        a.steps = T;
        a.batch = B;
        a.hidden = H;
        a.gates = gates.data();
        a.skip = skip.data();
        a.c0 = c0.data();
        a.lengths = p.lengths.data();
        a.weight_c = weight_c.data();
        a.bias = bias.data();
    }
};

// The bounds are the CPU's; the GPU's sigmoid errs more in its tail, and its tanh of 16-bit types
// 2^-11 of itself.
void check_answer(const Inputs& in, const reference::Answer& answer, const std::vector<char>& h,
                  const std::vector<float>& c_T, const char* what) {
    const bool narrow = in.format.bytes == 2;
    const double tanh_error = narrow && in.p.activation == "tanh" ? 0x1p-10 : 0.0;
    for (size_t i = 0; i < answer.h.size(); ++i) {
        const double got = storage_bits::read(in.format, &h[i * in.format.bytes]);
        double allowed = 4.0 * answer.h_bound[i] + 4e-6 + tanh_error;
        if (narrow) allowed += in.format.half_unit() * std::fabs(answer.h[i]);
        if (answer.h_bound[i] == 0.0) allowed = 0.0;  // beyond the length
        CHECK(std::fabs(got - answer.h[i]) <= allowed, "%s: h[%zu] is %g, expected %g", what, i,
              got, answer.h[i]);
    }
    for (size_t i = 0; i < c_T.size(); ++i) {
        const double allowed = answer.c_bound[i] == 0.0 ? 0.0 : 4.0 * answer.c_bound[i] + 4e-6;
        CHECK(std::fabs(c_T[i] - answer.c_T[i]) <= allowed, "%s: c_T[%zu] is %g, expected %g", what,
              i, c_T[i], answer.c_T[i]);
    }
}

int runs = 0;

void test_plan(const Inputs& in, const reference::Answer& answer, const GpuPlan& plan) {
    const reference::Problem& p = in.p;
    std::vector<char> h(answer.h.size() * in.format.bytes, '\x55');
    std::vector<float> c_T = in.c0;
    qrnn::PoolArguments a = in.a;
    a.h = h.data();
    a.c_T = c_T.data();
    a.c0 = a.c_T;  // in place: the harder case
    const bool pairs = in.format.bytes == 2 && p.H % 2 == 0;
    const bool fits =
        (p.T == 1 || plan.regime == GpuRegime::kWalk) && (plan.channels_per_thread == 1 || pairs);
    CHECK(gpu_emulation::pool(a, plan, 3) == fits, "%s T=%d H=%d channels=%d", p.pooling.c_str(),
          int(p.T), int(p.H), plan.channels_per_thread);
    if (!fits) return;
    check_answer(in, answer, h, c_T, p.pooling.c_str());
    ++runs;
}

// Around the steps that a walk has in flight, whole and partial warps, odd H.
void test_answers() {
    const int64_t shapes[][3] = {{1, 3, 10}, {1, 2, 5},  {15, 4, 6}, {16, 1, 1},
                                 {17, 4, 9}, {33, 2, 8}, {70, 3, 12}};
    for (int kind = 0; kind < 3; ++kind) {
        for (Storage storage : kStorages) {
            for (int activation = 0; activation < 3; ++activation) {
                for (bool reverse : {false, true}) {
                    for (const auto& shape : shapes) {
                        const Inputs in(kind, storage, activation, reverse, shape[0], shape[1],
                                        shape[2]);
                        const reference::Answer answer = reference::solve(in.p);
                        for (GpuRegime regime : {GpuRegime::kStep, GpuRegime::kWalk}) {
                            test_plan(in, answer, {regime, 1, 2});
                            test_plan(in, answer, {regime, 2, 1});
                        }
                    }
                }
            }
        }
    }
}

void test_lengths_are_clamped() {
    for (int kind = 0; kind < 3; ++kind) {
        const Inputs in(kind, Storage::kFloat32, 0, true, 20, 1, 6);
        const auto pooled = [&](int64_t length) {
            std::vector<char> h(20 * 6 * 4, '\x55');
            std::vector<float> c_T(6);
            qrnn::PoolArguments a = in.a;
            a.lengths = &length;
            a.h = h.data();
            a.c_T = c_T.data();
            CHECK(gpu_emulation::pool(a, {GpuRegime::kWalk, 1, 2}, 3), "no kernel");
            return h;
        };
        CHECK(pooled(int64_t{1} << 40) == pooled(20), "too long, %s", kKinds[kind].name);
        CHECK(pooled(-5) == pooled(0), "negative, %s", kKinds[kind].name);
        CHECK(pooled(20) != pooled(0), "%s", kKinds[kind].name);
    }
}

void test_plans() {
    const qrnn::GpuDevice device = {132, 90};
    const size_t much = size_t{1} << 40;
    for (const auto& kind : kKinds) {
        for (Storage storage : kStorages) {
            qrnn::PoolArguments a;
            a.pooling = kind.pooling;
            a.storage = storage;
            for (int64_t T : {0, 1, 2, 16, 300, 8192, 100000}) {
                for (int64_t B : {1, 3, 8, 256}) {
                    for (int64_t H : {1, 640, 1023, 1024}) {
                        a.steps = T;
                        a.batch = B;
                        a.hidden = H;
                        const GpuPlan plan = qrnn::plan_gpu(a, device, much);
                        CHECK(plan.regime == (T == 1 ? GpuRegime::kStep : GpuRegime::kWalk),
                              "regime %d at T=%d", int(plan.regime), int(T));
                        CHECK(qrnn::plan_fits(plan, a), "its own plan, T=%d", int(T));
                        const bool pairs = storage != Storage::kFloat32 && H % 2 == 0;
                        CHECK(plan.channels_per_thread == (pairs ? 2 : 1), "pairs at H=%d", int(H));
                        CHECK(qrnn::gpu_workspace_bytes(a, device) == 0, "workspace at T=%d",
                              int(T));
                        CHECK(qrnn::gpu_workspace_bound(a, device) == 0, "bound at T=%d", int(T));
                        for (GpuRegime regime : {GpuRegime::kScan, GpuRegime::kChain}) {
                            CHECK(!qrnn::plan_fits({regime, plan.channels_per_thread, 2}, a),
                                  "regime %d", int(regime));
                        }
                    }
                }
            }
        }
    }
    // Pairs ask for the alignment of skip where it is read.
    alignas(4) char aligned[8];
    for (const auto& kind : kKinds) {
        qrnn::PoolArguments a;
        a.pooling = kind.pooling;
        a.storage = Storage::kFloat16;
        a.hidden = 4;
        a.gates = aligned;
        a.h = aligned;
        a.skip = aligned;
        CHECK(qrnn::pairs_allowed(a), "%s", kind.name);
        a.skip = aligned + 2;
        CHECK(qrnn::pairs_allowed(a) == (kind.pooling != Pooling::kSRUInput), "%s", kind.name);
    }
}

}  // namespace

int main() {
    test_answers();
    test_lengths_are_clamped();
    test_plans();
    std::printf("%d runs, %d failures\n", runs, failures);
    return failures == 0 && runs > 0 ? 0 : 1;
}
