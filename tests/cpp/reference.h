// The recurrences as plain loops in double, with a bound on what float32 may err.
// It shares no code with the kernels.
#ifndef QRNN_DEPLOY_TESTS_REFERENCE_H_
#define QRNN_DEPLOY_TESTS_REFERENCE_H_

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace reference {

struct Problem {
    std::string pooling;     // f, fo, ifo, if, sru, sru_input or sru_noskip
    std::string activation;  // tanh, relu or identity
    bool reverse = false;
    double zoneout_scale = 1.0;
    int64_t T = 0, B = 0, H = 0;
    std::vector<double> gates;  // [T, B, G*H], order z f o i, or z f r x
    std::vector<double> c0;     // [B, H]
    std::vector<int64_t> lengths;
    std::vector<double> weight_c, bias;  // [2, H]; of an SRU
    std::vector<double> skip;            // [T, B, H]; of sru_input

    bool is_sru() const { return pooling.substr(0, 3) == "sru"; }
    int64_t gate_count() const {
        return pooling == "f" ? 2 : pooling == "ifo" || pooling == "sru" ? 4 : 3;
    }
};

struct Answer {
    std::vector<double> h, c_T;
    std::vector<double> h_bound, c_bound;  // what |kernel - answer| may be
};

// Relative error allowed to one activation, and the absolute one where it vanishes.
constexpr double kRelative = 1e-6;
constexpr double kVanishing = 1.2e-38;
constexpr double kDenormal = 1e-44;  // a few of the smallest float32

inline double sigmoid(double x) {
    return x >= 0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x));
}

// A gate of an SRU and what float32 may make of it: the pre-activation is a sum of three, rounded
// three times at most, and moves with what the state errs.
struct SruGate {
    double value, error = 0.0;

    SruGate(double x, double weight, double bias, double c, double c_error, double sign) {
        const double sum = x + weight * c + bias;
        const double moved = std::fabs(weight) * c_error +
                             0x1p-23 * (std::fabs(x) + std::fabs(weight * c) + std::fabs(bias));
        value = sigmoid(sign * sum);
        if (std::isinf(sum)) return;  // exactly 0 or 1
        error = std::fmax(sigmoid(sign * sum + moved) - value, value - sigmoid(sign * sum - moved));
        error += kRelative * (value + error) + kVanishing;
    }
};

inline Answer solve_sru(const Problem& p) {
    const int64_t G = p.gate_count(), H = p.H;
    Answer answer;
    answer.h.assign(p.T * p.B * H, 0.0);
    answer.h_bound.assign(p.T * p.B * H, 0.0);
    answer.c_T = p.c0;
    answer.c_bound.assign(p.B * H, 0.0);
    for (int64_t b = 0; b < p.B; ++b) {
        for (int64_t j = 0; j < H; ++j) {
            double c = p.c0[b * H + j];
            double bound = 0.0;
            for (int64_t i = 0; i < p.lengths[b]; ++i) {
                const int64_t t = p.reverse ? p.lengths[b] - 1 - i : i;
                const int64_t at = (t * p.B + b) * H + j;
                const double* x = &p.gates[(t * p.B + b) * G * H + j];
                const double z = x[0];
                const SruGate g(x[H], p.weight_c[j], p.bias[j], c, bound, -1.0);
                const SruGate r(x[2 * H], p.weight_c[H + j], p.bias[H + j], c, bound, 1.0);
                bound = std::fmin(1.0, 1.0 - g.value + g.error) * bound;
                bound += g.error * std::fabs(z - c) +
                         kRelative * g.value * (std::fabs(z) + std::fabs(c));
                c = c + g.value * (z - c);
                bound += 0x1p-23 * std::fabs(c) + kDenormal;
                if (std::isinf(c)) bound = 0.0;  // exactly so
                double a = c, a_bound = bound;
                if (p.activation == "tanh") {
                    a = std::tanh(c);
                    a_bound = std::fmin(bound, 2.0) + kRelative * std::fabs(a) + kDenormal;
                }
                if (p.activation == "relu") a = c < 0 ? 0 : c;
                const double r_most = std::fmin(1.0, r.value + r.error);
                if (p.pooling == "sru_noskip") {
                    answer.h[at] = r.value * a;
                    answer.h_bound[at] = r_most * a_bound + r.error * std::fabs(a) +
                                         0x1p-23 * std::fabs(r.value * a);
                } else {
                    const double in = p.pooling == "sru" ? x[3 * H] : p.skip[at];
                    answer.h[at] = in + r.value * (a - in);
                    answer.h_bound[at] = r_most * a_bound + r.error * std::fabs(a - in) +
                                         kRelative * r.value * (std::fabs(a) + std::fabs(in)) +
                                         0x1p-23 * std::fabs(answer.h[at]);
                }
                answer.h_bound[at] += kDenormal;
            }
            answer.c_T[b * H + j] = c;
            answer.c_bound[b * H + j] = bound;
        }
    }
    return answer;
}

inline Answer solve(const Problem& p) {
    if (p.is_sru()) return solve_sru(p);
    const bool has_o = p.pooling == "fo" || p.pooling == "ifo";
    const bool has_i = p.pooling == "ifo" || p.pooling == "if";
    const int64_t G = p.gate_count();
    Answer answer;
    answer.h.assign(p.T * p.B * p.H, 0.0);
    answer.h_bound.assign(p.T * p.B * p.H, 0.0);
    answer.c_T = p.c0;
    answer.c_bound.assign(p.B * p.H, 0.0);
    for (int64_t b = 0; b < p.B; ++b) {
        for (int64_t j = 0; j < p.H; ++j) {
            double c = p.c0[b * p.H + j];
            double bound = 0.0;
            for (int64_t i = 0; i < p.lengths[b]; ++i) {
                const int64_t t = p.reverse ? p.lengths[b] - 1 - i : i;
                const double* x = &p.gates[(t * p.B + b) * G * p.H + j];
                double z = x[0];
                if (p.activation == "tanh") z = std::tanh(z);
                if (p.activation == "relu") z = z < 0 ? 0 : z;
                const double x_f = x[p.H];
                // What was wrong before is kept in the proportion of the state.
                if (has_i) {
                    const double f = sigmoid(x_f), in = sigmoid(x[(has_o ? 3 : 2) * p.H]);
                    bound = f * bound + kRelative * (f * std::fabs(c) + in * std::fabs(z));
                    bound += kVanishing * (std::fabs(c) + std::fabs(z));
                    c = f * c + in * z;
                } else {
                    const double g = p.zoneout_scale * sigmoid(-x_f);
                    bound = (1.0 - g) * bound;
                    bound += (kRelative * g + kVanishing) * (std::fabs(c) + std::fabs(z));
                    c = c + g * (z - c);
                }
                bound += 0x1p-23 * std::fabs(c) + kDenormal;  // rounding the state
                const int64_t at = (t * p.B + b) * p.H + j;
                const double o = has_o ? sigmoid(x[2 * p.H]) : 1.0;
                answer.h[at] = has_o ? o * c : c;
                answer.h_bound[at] =
                    o * bound +
                    (has_o ? (kRelative * o + kVanishing) * std::fabs(c) + kDenormal : 0.0);
            }
            answer.c_T[b * p.H + j] = c;
            answer.c_bound[b * p.H + j] = bound;
        }
    }
    return answer;
}

}  // namespace reference

#endif  // QRNN_DEPLOY_TESTS_REFERENCE_H_
