// Storage types of `gates` and `h`, and their conversion to and from float32.
// Rounding is to nearest even; NaN stays NaN; float16 overflows to infinity.
#ifndef QRNN_DEPLOY_CORE_STORAGE_H_
#define QRNN_DEPLOY_CORE_STORAGE_H_

#include <stdint.h>
#include <string.h>

#include "host_device.h"

namespace qrnn {

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};

namespace storage_detail {
QRNN_HD uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
QRNN_HD float value(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
}  // namespace storage_detail

QRNN_HD float to_float(float x) { return x; }

QRNN_HD float to_float(BFloat16 x) {
    return storage_detail::value(static_cast<uint32_t>(x.bits) << 16);
}

QRNN_HD float to_float(Float16 x) {
    const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
    const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
    // 2^112 moves the exponent bias from 15 to 127 and normalises denormals on the way.
    const uint32_t finite = storage_detail::bits(storage_detail::value(magnitude) * 0x1p112f);
    const uint32_t special = magnitude | 0x7f800000u;
    return storage_detail::value(sign | ((x.bits & 0x7c00u) == 0x7c00u ? special : finite));
}

template <class T>
QRNN_HD T from_float(float x);

template <>
QRNN_HD float from_float<float>(float x) {
    return x;
}

template <>
QRNN_HD BFloat16 from_float<BFloat16>(float x) {
    const uint32_t u = storage_detail::bits(x);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const uint32_t quiet = (u >> 16) | 0x40u;
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    return {static_cast<uint16_t>(nan ? quiet : rounded)};
}

template <>
QRNN_HD Float16 from_float<Float16>(float x) {
    const uint32_t u = storage_detail::bits(x);
    const uint32_t magnitude = u & 0x7fffffffu;
    // Below 2^-14 the result is denormal: adding 0.5, whose last place is the smallest float16,
    // makes the addition do the rounding.
    const uint32_t denormal =
        storage_detail::bits(storage_detail::value(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
    uint32_t result = magnitude < 0x38800000u ? denormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    return {static_cast<uint16_t>(result | ((u >> 16) & 0x8000u))};
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_STORAGE_H_
