// Storage types as bits, decoded and encoded by the definition of their formats.
#ifndef QRNN_DEPLOY_TESTS_STORAGE_BITS_H_
#define QRNN_DEPLOY_TESTS_STORAGE_BITS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "pool.h"

namespace storage_bits {

// 1 sign bit, `exponent_bits`, `fraction_bits`.
struct Format {
    int bytes, exponent_bits, fraction_bits;

    int bias() const { return (1 << (exponent_bits - 1)) - 1; }
    double smallest() const { return std::ldexp(1.0, 1 - bias() - fraction_bits); }
    double half_unit() const { return std::ldexp(1.0, -fraction_bits - 1); }  // relative
    // From here on rounding gives infinity.
    double overflow() const {
        return std::ldexp(2.0 - std::ldexp(1.0, -fraction_bits - 1), bias());
    }
};

inline Format format_of(qrnn::Storage storage) {
    switch (storage) {
        case qrnn::Storage::kFloat16: return {2, 5, 10};
        case qrnn::Storage::kBFloat16: return {2, 8, 7};
        default: return {4, 8, 23};
    }
}

inline double decode(const Format& format, uint32_t bits) {
    const int all = (1 << format.exponent_bits) - 1;
    const int exponent = static_cast<int>(bits >> format.fraction_bits) & all;
    const uint32_t fraction = bits & ((1u << format.fraction_bits) - 1u);
    const bool negative = (bits >> (format.exponent_bits + format.fraction_bits)) & 1u;
    double value;
    if (exponent == all) {
        value = fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                              : std::numeric_limits<double>::infinity();
    } else if (exponent == 0) {
        value = fraction * format.smallest();
    } else {
        value =
            std::ldexp(1.0 + std::ldexp(fraction, -format.fraction_bits), exponent - format.bias());
    }
    return negative ? -value : value;
}

// Nearest, ties to even.
inline uint32_t encode(const Format& format, double value) {
    const uint32_t sign =
        std::signbit(value) ? 1u << (format.exponent_bits + format.fraction_bits) : 0u;
    const uint32_t infinity = ((1u << format.exponent_bits) - 1u) << format.fraction_bits;
    const double magnitude = std::fabs(value);
    if (std::isnan(value)) return sign | infinity | (1u << (format.fraction_bits - 1));
    if (magnitude >= format.overflow()) return sign | infinity;
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    exponent = magnitude == 0 ? 1 - format.bias() : std::max(exponent - 1, 1 - format.bias());
    // The unit of the last place at this exponent; nearbyint rounds ties to even.
    const double units = std::nearbyint(std::ldexp(magnitude, format.fraction_bits - exponent));
    // A denormal has exponent field 0, a carry into the next binade adds 1 to it: both follow from
    // adding the units to the field, less the hidden bit.
    const uint32_t field = static_cast<uint32_t>(exponent + format.bias() - 1);
    return sign | ((field << format.fraction_bits) + static_cast<uint32_t>(units));
}

inline double read(const Format& format, const char* p) {
    uint32_t bits = 0;
    std::memcpy(&bits, p, format.bytes);
    return decode(format, bits);
}

inline void write(const Format& format, char* p, double value) {
    const uint32_t bits = encode(format, value);
    std::memcpy(p, &bits, format.bytes);
}

}  // namespace storage_bits

#endif  // QRNN_DEPLOY_TESTS_STORAGE_BITS_H_
