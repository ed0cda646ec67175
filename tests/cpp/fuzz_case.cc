#include "fuzz_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

namespace fuzz {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<std::string> kPoolingNames = {"f",   "fo",        "ifo",       "if",
                                                "sru", "sru_input", "sru_noskip"};  // as Pooling

template <class Item>
const Item& pick(Random& random, const std::vector<Item>& items) {
    return items[uniform(random, 0, static_cast<int64_t>(items.size()) - 1)];
}

void choose_shape(Random& random, reference::Problem& p) {
    if (chance(random, 0.002)) {  // enough work for several threads
        p.T = uniform(random, 20, 60);
        p.B = uniform(random, 2, 5);
        p.H = uniform(random, 650, 1300);
        return;
    }
    p.T = chance(random, 0.1) ? uniform(random, 0, 1) : uniform(random, 1, 24);
    p.B = chance(random, 0.05) ? 0 : uniform(random, 1, 5);
    p.H = chance(random, 0.05) ? uniform(random, 0, 1) : uniform(random, 1, 70);
    if (chance(random, 0.02)) p.H = uniform(random, 900, 2300);
    if (chance(random, 0.02)) p.T = uniform(random, 100, 400);
    if (p.T * p.B * p.H > 200000) p.T = 3;
}

// How the values are spread. Infinity times a gate that underflows in float32 but not in double
// differs, so gates go far into the tails only where z and c are finite. An SRU's gate is a sum.
struct Spread {
    bool special;
    double farthest;  // of a gate, where z and c may be infinite
    double gate, value;

    double draw_gate(Random& random) const {
        if (special && chance(random, 0.02))
            return pick<double>(random, {kInfinity, -kInfinity, NAN});
        const double x = std::normal_distribution<double>(0.0, gate)(random);
        return special ? std::clamp(x, -farthest, farthest) : x;
    }
    double draw_value(Random& random) const {
        if (special && chance(random, 0.02))
            return pick<double>(random, {kInfinity, -kInfinity, NAN});
        if (chance(random, 0.02)) return 0.0;
        return std::normal_distribution<double>(0.0, value)(random);
    }
};

}  // namespace

int64_t uniform(Random& random, int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
}

bool chance(Random& random, double probability) {
    return std::bernoulli_distribution(probability)(random);
}

Buffer::Buffer(Random& random, int64_t bytes) : offset_(uniform(random, 0, 7)), size_(bytes) {
    base_ = std::malloc(static_cast<size_t>(offset_ + bytes));
    if (base_ == nullptr && offset_ + bytes > 0) std::abort();
    if (base_ != nullptr) std::memset(base_, 0xa5, static_cast<size_t>(offset_ + bytes));
}

Case::Case(Random& random) {
    reference::Problem& p = problem;
    storage = pick<qrnn::Storage>(
        random, {qrnn::Storage::kFloat32, qrnn::Storage::kFloat16, qrnn::Storage::kBFloat16});
    p.pooling = pick<std::string>(random, kPoolingNames);
    p.activation = pick<std::string>(random, {"tanh", "relu", "identity"});
    p.reverse = chance(random, 0.5);
    const bool zoneout = (p.pooling == "f" || p.pooling == "fo") && chance(random, 0.4);
    p.zoneout_scale = zoneout ? static_cast<float>(uniform(random, 1, 100)) / 100.0f : 1.0;
    choose_shape(random, p);

    const Spread spread = {chance(random, 0.25), p.is_sru() ? 25.0 : 80.0,
                           pick<double>(random, {0.1, 2.0, 20.0, 90.0}),
                           pick<double>(random, {1e-20, 1e-3, 1.0, 30.0, 1e4})};
    const auto bits = format();
    const int64_t G = p.gate_count();
    gates = Buffer(random, p.T * p.B * G * p.H * bits.bytes);
    c0 = Buffer(random, c_bytes());
    lengths = Buffer(random, p.B * 8);
    const auto store = [&](Buffer& buffer, std::vector<double>& values, double x) {
        char* at = buffer.data() + static_cast<int64_t>(values.size()) * bits.bytes;
        storage_bits::write(bits, at, x);
        values.push_back(storage_bits::read(bits, at));
    };
    const auto store_float32 = [](Buffer& buffer, std::vector<double>& values, double x) {
        const float narrow = static_cast<float>(x);
        std::memcpy(buffer.data() + values.size() * 4, &narrow, 4);
        values.push_back(narrow);
    };
    for (int64_t i = 0; i < p.T * p.B; ++i) {
        for (int64_t j = 0; j < G * p.H; ++j) {
            // z, and the x of an SRU, are values.
            const bool value = j < p.H || (p.pooling == "sru" && j >= 3 * p.H);
            store(gates, p.gates, value ? spread.draw_value(random) : spread.draw_gate(random));
        }
    }
    for (int64_t i = 0; i < p.B * p.H; ++i) {
        store_float32(c0, p.c0, spread.draw_value(random));
    }
    if (p.is_sru()) {
        weight_c = Buffer(random, 2 * p.H * 4);
        bias = Buffer(random, 2 * p.H * 4);
        // The pre-activations move by about so much with the state, whatever the state's size:
        // far more, and the state would decide every gate, or be chaos that no bound follows.
        const double size =
            pick<double>(random, {0.0, 0.1, 1.0, spread.special ? 1.0 : 3.0}) / spread.value;
        for (int64_t i = 0; i < 2 * p.H; ++i) {
            store_float32(weight_c, p.weight_c, std::normal_distribution<double>(0, size)(random));
            store_float32(bias, p.bias, spread.draw_gate(random));
        }
    }
    if (p.pooling == "sru_input") {
        skip = Buffer(random, h_bytes());
        for (int64_t i = 0; i < p.T * p.B * p.H; ++i) {
            store(skip, p.skip, spread.draw_value(random));
        }
    }
    const bool full = chance(random, 0.3);
    for (int64_t b = 0; b < p.B; ++b) {
        const int64_t length = full ? p.T : uniform(random, 0, p.T);
        std::memcpy(lengths.data() + b * 8, &length, 8);
        p.lengths.push_back(length);
    }
}

void Case::give(qrnn::PoolArguments& a) const {
    const reference::Problem& p = problem;
    const auto found = std::find(kPoolingNames.begin(), kPoolingNames.end(), p.pooling);
    a.pooling = static_cast<qrnn::Pooling>(found - kPoolingNames.begin());
    a.activation = p.activation == "tanh"   ? qrnn::Activation::kTanh
                   : p.activation == "relu" ? qrnn::Activation::kRelu
                                            : qrnn::Activation::kIdentity;
    a.storage = storage;
    a.reverse = p.reverse;
    a.zoneout_scale = static_cast<float>(p.zoneout_scale);
    a.steps = p.T;
    a.batch = p.B;
    a.hidden = p.H;
    a.gates = gates.data();
    a.c0 = c0.data();
    a.lengths = lengths.data();
    a.weight_c = weight_c.data();
    a.bias = bias.data();
    a.skip = skip.data();
}

std::string Case::describe() const {
    std::ostringstream text;
    text << problem.pooling << " T=" << problem.T << " B=" << problem.B << " H=" << problem.H
         << " storage="
         << (storage == qrnn::Storage::kFloat32   ? "float32"
             : storage == qrnn::Storage::kFloat16 ? "float16"
                                                  : "bfloat16")
         << " activation=" << problem.activation << (problem.reverse ? " reverse" : " forward")
         << " zoneout_scale=" << problem.zoneout_scale << " lengths=";
    for (int64_t length : problem.lengths) text << length << ",";
    return text.str();
}

std::string Case::mismatch(const reference::Answer& answer, const char* h, const char* c_T) const {
    const auto compare = [&](const char* what, const storage_bits::Format& bits, const char* got,
                             const std::vector<double>& expected,
                             const std::vector<double>& bound) -> std::string {
        for (size_t i = 0; i < expected.size(); ++i) {
            const double value = storage_bits::read(bits, got + i * bits.bytes);
            const double want = expected[i];
            bool same;
            if (std::isnan(want)) {
                same = std::isnan(value);
            } else if (std::isinf(want)) {
                same = value == want;
            } else {
                const double rounding =
                    bits.bytes == 4 ? 0.0 : bits.half_unit() * std::fabs(want) + bits.smallest();
                same = std::fabs(value - want) <= bound[i] + rounding;
                // What lies at the border of overflow may fall on either side.
                if (!same && std::isinf(value)) {
                    same = std::fabs(want) + bound[i] >= bits.overflow() &&
                           std::signbit(value) == std::signbit(want);
                }
                if (!same && std::fabs(want) >= bits.overflow()) {
                    same = std::isinf(value) && std::signbit(value) == std::signbit(want);
                }
            }
            if (!same) {
                std::ostringstream text;
                text.precision(9);
                text << what << "[" << i << "] is " << value << ", expected " << want << " within "
                     << bound[i];
                return text.str();
            }
        }
        return "";
    };
    const std::string wrong = compare("h", format(), h, answer.h, answer.h_bound);
    if (!wrong.empty()) return wrong;
    return compare("c_T", storage_bits::format_of(qrnn::Storage::kFloat32), c_T, answer.c_T,
                   answer.c_bound);
}

}  // namespace fuzz
