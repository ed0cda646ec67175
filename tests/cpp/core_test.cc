// Checks of the core alone that a random test would miss: the accuracy of the activations over
// their whole range, every float16 and bfloat16 value in and out, and the split into parts.
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "pool.h"
#include "storage_bits.h"

namespace {

using qrnn::Activation;
using qrnn::Isa;
using qrnn::Pooling;
using qrnn::Storage;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Isa kIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512};
int failures = 0;

#define CHECK(condition, ...)                           \
    do {                                                \
        if (!(condition)) {                             \
            if (++failures <= 20) {                     \
                std::printf("FAILED %s: ", #condition); \
                std::printf(__VA_ARGS__);               \
                std::printf("\n");                      \
            }                                           \
        }                                               \
    } while (false)

// One step of f-pooling for H channels: c = c0 + sigmoid(-x_f) (activation(x_z) - c0).
struct OneStep {
    Activation activation = Activation::kIdentity;
    Storage storage = Storage::kFloat32;
    std::vector<char> z, f;  // H of `storage` each
    std::vector<float> c0;
    std::vector<char> h;
    std::vector<float> c_T;

    void run(Isa isa) {
        const int64_t one = 1;
        std::vector<char> gates(z);
        gates.insert(gates.end(), f.begin(), f.end());
        h.assign(z.size(), 0);
        c_T.assign(c0.size(), 0.0f);
        qrnn::PoolArguments a;
        a.pooling = Pooling::kF;
        a.activation = activation;
        a.storage = storage;
        a.steps = 1;
        a.batch = 1;
        a.hidden = static_cast<int64_t>(c0.size());
        a.gates = gates.data();
        a.c0 = c0.data();
        a.lengths = &one;
        a.h = h.data();
        a.c_T = c_T.data();
        const qrnn::PoolPlan plan = qrnn::plan_pool(a, 1, isa);
        for (int64_t part = 0; part < plan.parts(); ++part) plan.run(a, part);
    }
};

std::vector<char> bytes_of(const std::vector<float>& values) {
    std::vector<char> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

// Every 4099th float32: all signs and exponents.
std::vector<float> sampled_floats() {
    std::vector<float> values;
    for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 4099) {
        const uint32_t u = static_cast<uint32_t>(bits);
        float x;
        std::memcpy(&x, &u, sizeof x);
        values.push_back(x);
    }
    return values;
}

void check_activation(const char* what, Isa isa, double x, double got, double expected) {
    if (std::isnan(expected)) {
        CHECK(std::isnan(got), "%s(%g) is %g on %s", what, x, got, qrnn::isa_name(isa));
        return;
    }
    // Below the least normal number a gate may vanish.
    const double allowed = 1e-6 * std::fabs(expected) + 1.2e-38;
    CHECK(std::fabs(got - expected) <= allowed, "%s(%.9g) is %.9g, expected %.9g on %s", what, x,
          got, expected, qrnn::isa_name(isa));
}

void test_sigmoid(Isa isa) {
    OneStep step;
    const std::vector<float> x = sampled_floats();
    step.z = bytes_of(std::vector<float>(x.size(), 1.0f));
    step.c0.assign(x.size(), 0.0f);
    step.f = bytes_of(x);
    step.run(isa);
    for (size_t i = 0; i < x.size(); ++i) {
        const double expected = 1.0 / (1.0 + std::exp(static_cast<double>(x[i])));
        check_activation("sigmoid", isa, -x[i], step.c_T[i], expected);
    }
}

void test_tanh(Isa isa) {
    OneStep step;
    const std::vector<float> x = sampled_floats();
    step.activation = Activation::kTanh;
    step.z = bytes_of(x);
    step.c0.assign(x.size(), 0.0f);
    step.f = bytes_of(std::vector<float>(x.size(), -kInfinity));
    step.run(isa);
    for (size_t i = 0; i < x.size(); ++i) {
        check_activation("tanh", isa, x[i], step.c_T[i], std::tanh(static_cast<double>(x[i])));
    }
}

void test_infinite_gates(Isa isa) {
    // f = 1 keeps the state, f = 0 replaces it, both exactly.
    OneStep step;
    step.c0.assign(33, 0.1f);
    step.z = bytes_of(std::vector<float>(33, 0.7f));
    step.f = bytes_of(std::vector<float>(33, kInfinity));
    step.run(isa);
    for (float c : step.c_T) CHECK(c == 0.1f, "c is %.9g on %s", c, qrnn::isa_name(isa));
    step.c0.assign(33, 0.0f);
    step.f = bytes_of(std::vector<float>(33, -kInfinity));
    step.run(isa);
    for (float c : step.c_T) CHECK(c == 0.7f, "c is %.9g on %s", c, qrnn::isa_name(isa));
}

// Each of the 65536 values comes in through z and goes out through h unchanged.
void test_every_value(Isa isa, Storage storage) {
    const auto format = storage_bits::format_of(storage);
    OneStep step;
    step.storage = storage;
    step.c0.assign(65536, 0.0f);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const uint16_t z = static_cast<uint16_t>(bits);
        step.z.insert(step.z.end(), reinterpret_cast<const char*>(&z),
                      reinterpret_cast<const char*>(&z) + 2);
    }
    step.f.resize(step.z.size());
    for (size_t i = 0; i < 65536; ++i) {
        storage_bits::write(format, &step.f[2 * i], -std::numeric_limits<double>::infinity());
    }
    step.run(isa);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const double in = storage_bits::decode(format, bits);
        const double out = storage_bits::read(format, &step.h[2 * bits]);
        CHECK(in == out || (std::isnan(in) && std::isnan(out)), "0x%04x (%g) became %g on %s", bits,
              in, out, qrnn::isa_name(isa));
    }
}

// A float32 state rounds to the nearest storage value, ties to even.
void test_rounding(Isa isa, Storage storage) {
    const auto format = storage_bits::format_of(storage);
    OneStep step;
    step.storage = storage;
    step.c0 = sampled_floats();
    for (uint32_t bits = 0; bits < 65536; ++bits) {  // the values between two float16 or bfloat16
        const double low = storage_bits::decode(format, bits);
        const double high = storage_bits::decode(format, bits + 1);
        const float middle = static_cast<float>((low + high) / 2);
        if (std::isfinite(low) && std::isfinite(high)) step.c0.push_back(middle);
    }
    step.z.assign(step.c0.size() * 2, 0);
    step.f.resize(step.c0.size() * 2);
    for (size_t i = 0; i < step.c0.size(); ++i) {
        storage_bits::write(format, &step.f[2 * i], std::numeric_limits<double>::infinity());
    }
    step.run(isa);
    for (size_t i = 0; i < step.c0.size(); ++i) {
        if (!std::isfinite(step.c0[i])) continue;  // 0 * infinity: the state is NaN already
        const double expected =
            storage_bits::decode(format, storage_bits::encode(format, step.c0[i]));
        const double out = storage_bits::read(format, &step.h[2 * i]);
        CHECK(out == expected, "%.9g rounds to %.9g, expected %.9g on %s", step.c0[i], out,
              expected, qrnn::isa_name(isa));
    }
}

constexpr Pooling kPoolings[] = {Pooling::kF,        Pooling::kFO,  Pooling::kIFO,
                                 Pooling::kIF,       Pooling::kSRU, Pooling::kSRUInput,
                                 Pooling::kSRUNoSkip};

// Any split gives the same bits.
void test_parts(Isa isa) {
    const int64_t T = 5, B = 7, H = 1283;
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    std::vector<float> gates(T * B * 4 * H), c0(B * H), parameters(4 * H), skip(T * B * H);
    for (auto* array : {&gates, &c0, &parameters, &skip}) {
        for (float& x : *array) x = normal(random);
    }
    const std::vector<int64_t> lengths = {5, 0, 3, 1, 5, 2, 4};
    for (Pooling pooling : kPoolings) {
        std::vector<float> first_h, first_c;
        int64_t most = 0;
        for (int64_t wanted : {1, 2, 3, 8, 1000}) {
            std::vector<float> h(T * B * H, NAN), c_T(B * H, NAN);
            qrnn::PoolArguments a;
            a.pooling = pooling;
            a.reverse = true;
            a.steps = T;
            a.batch = B;
            a.hidden = H;
            a.gates = gates.data();
            a.c0 = c0.data();
            a.lengths = lengths.data();
            a.weight_c = parameters.data();
            a.bias = parameters.data() + 2 * H;
            a.skip = skip.data();
            a.h = h.data();
            a.c_T = c_T.data();
            const qrnn::PoolPlan plan = qrnn::plan_pool(a, wanted, isa);
            for (int64_t part = plan.parts() - 1; part >= 0; --part) plan.run(a, part);
            most = std::max(most, plan.parts());
            if (first_h.empty()) {
                first_h = h;
                first_c = c_T;
            }
            CHECK(std::memcmp(h.data(), first_h.data(), h.size() * sizeof(float)) == 0,
                  "h differs in %" PRId64 " parts on %s", plan.parts(), qrnn::isa_name(isa));
            CHECK(std::memcmp(c_T.data(), first_c.data(), c_T.size() * sizeof(float)) == 0,
                  "c_T differs in %" PRId64 " parts on %s", plan.parts(), qrnn::isa_name(isa));
        }
        CHECK(most > 2, "at most %" PRId64 " parts", most);
    }
}

// A row's result does not depend on its place among others, nor a channel's, nor on how its steps
// are cut into calls: every channel again, alone, in calls of a few steps.
void test_place(Isa isa, Pooling pooling) {
    const int64_t T = 9, B = 3, H = 77, G = qrnn::gate_count(pooling);
    const int64_t cuts[] = {0, 1, 4, T};
    std::mt19937 random(2);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    std::vector<float> gates(T * B * G * H), c0(B * H), parameters(4 * H), skip(T * B * H);
    for (auto* array : {&gates, &c0, &parameters, &skip}) {
        for (float& x : *array) x = normal(random);
    }
    std::vector<float> h(T * B * H), c_T(B * H);
    const auto run = [&](qrnn::PoolArguments a, int64_t steps, int64_t batch, int64_t hidden) {
        const std::vector<int64_t> lengths(batch, steps);
        a.pooling = pooling;
        a.steps = steps;
        a.batch = batch;
        a.hidden = hidden;
        a.lengths = lengths.data();
        const qrnn::PoolPlan plan = qrnn::plan_pool(a, 1, isa);
        for (int64_t part = 0; part < plan.parts(); ++part) plan.run(a, part);
    };
    qrnn::PoolArguments whole;
    whole.gates = gates.data();
    whole.c0 = c0.data();
    whole.weight_c = parameters.data();
    whole.bias = parameters.data() + 2 * H;
    whole.skip = skip.data();
    whole.h = h.data();
    whole.c_T = c_T.data();
    run(whole, T, B, H);
    for (int64_t lane = 0; lane < B * H; ++lane) {
        const int64_t b = lane / H, j = lane % H;
        float own_gates[T * 4], own_skip[T], own_parameters[4], own_h[T], state = c0[lane];
        for (int64_t t = 0; t < T; ++t) {
            for (int64_t g = 0; g < G; ++g) {
                own_gates[t * G + g] = gates[(t * B + b) * G * H + g * H + j];
            }
            own_skip[t] = skip[(t * B + b) * H + j];
        }
        for (int64_t i = 0; i < 4; ++i) own_parameters[i] = parameters[i * H + j];
        for (int cut = 0; cut < 3; ++cut) {
            qrnn::PoolArguments part;
            part.gates = own_gates + cuts[cut] * G;
            part.c0 = part.c_T = &state;
            part.weight_c = own_parameters;
            part.bias = own_parameters + 2;
            part.skip = own_skip + cuts[cut];
            part.h = own_h + cuts[cut];
            run(part, cuts[cut + 1] - cuts[cut], 1, 1);
        }
        CHECK(std::memcmp(&state, &c_T[lane], sizeof state) == 0, "c_T of lane %" PRId64 " on %s",
              lane, qrnn::isa_name(isa));
        for (int64_t t = 0; t < T; ++t) {
            CHECK(std::memcmp(&own_h[t], &h[t * B * H + lane], sizeof own_h[t]) == 0,
                  "h of lane %" PRId64 " of pooling %d on %s", lane, static_cast<int>(pooling),
                  qrnn::isa_name(isa));
        }
    }
}

// An SRU's two gates over the whole range of float32: 1 - f in the state, r in h.
void test_sru_gates(Isa isa) {
    const std::vector<float> x = sampled_floats();
    const int64_t H = static_cast<int64_t>(x.size()), one = 1;
    // z = 1 and c0 = 0: c_T = sigmoid(-x), h = sigmoid(x) c_T.
    std::vector<float> gates(x.size(), 1.0f), c0(x.size(), 0.0f), parameters(4 * x.size(), 0.0f);
    gates.insert(gates.end(), x.begin(), x.end());
    gates.insert(gates.end(), x.begin(), x.end());
    std::vector<float> h(x.size()), c_T(x.size());
    qrnn::PoolArguments a;
    a.pooling = Pooling::kSRUNoSkip;
    a.activation = Activation::kIdentity;
    a.steps = 1;
    a.batch = 1;
    a.hidden = H;
    a.gates = gates.data();
    a.c0 = c0.data();
    a.lengths = &one;
    a.weight_c = parameters.data();
    a.bias = parameters.data();
    a.h = h.data();
    a.c_T = c_T.data();
    const qrnn::PoolPlan plan = qrnn::plan_pool(a, 1, isa);
    for (int64_t part = 0; part < plan.parts(); ++part) plan.run(a, part);
    for (size_t i = 0; i < x.size(); ++i) {
        const double in = x[i];
        check_activation("1 - f", isa, -in, c_T[i], 1.0 / (1.0 + std::exp(in)));
        const double r = 1.0 / (1.0 + std::exp(-in));
        check_activation("r", isa, in, h[i], r * c_T[i]);
    }
}

}  // namespace

int main() {
    for (Isa isa : kIsas) {
        if (!qrnn::isa_available(isa)) {
            std::printf("%s: not available here, not tested\n", qrnn::isa_name(isa));
            continue;
        }
        const int before = failures;
        test_sigmoid(isa);
        test_tanh(isa);
        test_infinite_gates(isa);
        for (Storage storage : {Storage::kFloat16, Storage::kBFloat16}) {
            test_every_value(isa, storage);
            test_rounding(isa, storage);
        }
        test_parts(isa);
        for (Pooling pooling : kPoolings) test_place(isa, pooling);
        test_sru_gates(isa);
        std::printf("%s: %d failures\n", qrnn::isa_name(isa), failures - before);
    }
    return failures == 0 ? 0 : 1;
}
