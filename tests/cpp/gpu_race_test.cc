// The kernels whose threads depend on each other, on the host under ThreadSanitizer (make tsan):
// several blocks at once, several chunks, more chunks than there are between two anchors. Those of
// an SRU, whose threads must not, too.
//
//   gpu_race_test                          must pass, and find the double reference's answer
//   gpu_race_test REGIME --skip-barrier N  leaves the N-th barrier of every block out: must be
//                                          found
//   gpu_race_test chain --weak-order       states are published in no order: must be found
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "gpu_emulation.h"
#include "reference.h"

namespace {

using qrnn::GpuRegime;

struct Shape {
    int64_t T, B, H;
    int warps;
};

bool check(GpuRegime regime, const Shape& shape, bool reverse,
           const gpu_emulation::Mutation& mutation, qrnn::Pooling pooling = qrnn::Pooling::kFO) {
    reference::Problem p;
    p.pooling = pooling == qrnn::Pooling::kFO         ? "fo"
                : pooling == qrnn::Pooling::kSRU      ? "sru"
                : pooling == qrnn::Pooling::kSRUInput ? "sru_input"
                                                      : "sru_noskip";
    p.activation = "tanh";
    p.reverse = reverse;
    p.T = shape.T;
    p.B = shape.B;
    p.H = shape.H;
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.0f, 2.0f);
    std::vector<float> gates(p.T * p.B * p.gate_count() * p.H), state(p.B * p.H),
        h(p.T * p.B * p.H, NAN);
    for (float& x : gates) x = normal(random);
    for (float& x : state) x = normal(random);
    p.gates.assign(gates.begin(), gates.end());
    p.c0.assign(state.begin(), state.end());
    for (int64_t b = 0; b < p.B; ++b) p.lengths.push_back(b == 0 ? p.T : b == 1 ? 0 : p.T / b);
    std::vector<float> parameters(4 * p.H), skip(h.size());
    for (float& x : parameters) x = normal(random) / 4;
    for (float& x : skip) x = normal(random);
    p.weight_c.assign(parameters.begin(), parameters.begin() + 2 * p.H);
    p.bias.assign(parameters.begin() + 2 * p.H, parameters.end());
    p.skip.assign(skip.begin(), skip.end());
    const reference::Answer answer = reference::solve(p);

    qrnn::PoolArguments a;
    a.pooling = pooling;
    a.weight_c = parameters.data();
    a.bias = parameters.data() + 2 * p.H;
    a.skip = skip.data();
    a.reverse = reverse;
    a.steps = p.T;
    a.batch = p.B;
    a.hidden = p.H;
    a.gates = gates.data();
    a.c0 = state.data();
    a.lengths = p.lengths.data();
    a.h = h.data();
    a.c_T = state.data();  // in place: the harder case
    // 5 at once, which no number of groups here divides: else a group would have the same threads.
    gpu_emulation::pool(a, {regime, 1, shape.warps}, 5, mutation);
    for (size_t i = 0; i < h.size(); ++i) {
        if (!(std::fabs(h[i] - answer.h[i]) <= 4e-6)) return false;
    }
    for (size_t i = 0; i < state.size(); ++i) {
        if (!(std::fabs(state[i] - answer.c_T[i]) <= 4e-6)) return false;
    }
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    gpu_emulation::Mutation mutation;
    const std::string regime = argc > 1 ? argv[1] : "all";
    for (int i = 2; i < argc; ++i) {
        if (std::strcmp(argv[i], "--weak-order") == 0) mutation.weak_order = true;
        if (std::strcmp(argv[i], "--skip-barrier") == 0 && i + 1 < argc) {
            mutation.skipped_barrier = std::atoi(argv[++i]);
        }
    }
    const bool broken = mutation.skipped_barrier != 0 || mutation.weak_order;
    bool right = true;
    const Shape shapes[] = {{70, 3, 5, 2}, {800, 1, 9, 1}, {90, 2, 4, 3}};
    // One round may order two threads by chance.
    for (int round = 0; round < 5; ++round) {
        for (const Shape& shape : shapes) {
            for (bool reverse : {false, true}) {
                if (regime != "chain") right &= check(GpuRegime::kScan, shape, reverse, mutation);
                if (regime == "all") {
                    for (auto sru : {qrnn::Pooling::kSRU, qrnn::Pooling::kSRUInput,
                                     qrnn::Pooling::kSRUNoSkip}) {
                        right &= check(GpuRegime::kWalk, shape, reverse, mutation, sru);
                    }
                }
                if (regime != "scan") right &= check(GpuRegime::kChain, shape, reverse, mutation);
            }
        }
    }
    if (!right && !broken) std::printf("wrong values\n");
    return right || broken ? 0 : 1;  // what is broken on purpose is ThreadSanitizer's to report
}
