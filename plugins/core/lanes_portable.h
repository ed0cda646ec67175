// Four floats as a vector of the compiler (GCC and Clang): SSE2 or NEON where there is one, plain
// code elsewhere. Also the meaning of the operations, for the lanes written in intrinsics.
#ifndef QRNN_DEPLOY_CORE_LANES_PORTABLE_H_
#define QRNN_DEPLOY_CORE_LANES_PORTABLE_H_

#include <stdint.h>
#include <string.h>

#include "activations.h"
#include "host_device.h"
#include "storage.h"

namespace qrnn {

struct PortableLanes {
    using Activations = PolynomialActivations;
    static constexpr int width = 4;
    typedef float V __attribute__((vector_size(4 * width)));
    typedef uint32_t Bits __attribute__((vector_size(4 * width)));

    static QRNN_HD V set(float x) { return V{x, x, x, x}; }
    static QRNN_HD V add(V a, V b) { return a + b; }
    static QRNN_HD V sub(V a, V b) { return a - b; }
    static QRNN_HD V mul(V a, V b) { return a * b; }
    // a * b + c, rounded once or twice, whichever the target does at full speed.
    static QRNN_HD V fma(V a, V b, V c) { return a * b + c; }
    static QRNN_HD V negate(V x) { return -x; }
    // x within the limit; NaN where x is NaN.
    static QRNN_HD V max_or_nan(V x, V limit) { return x < limit ? limit : x; }
    static QRNN_HD V min_or_nan(V x, V limit) { return limit < x ? limit : x; }
    // The float whose exponent field is the low 8 bits of x's representation: 2^n, 0 or infinity.
    static QRNN_HD V exponent_from_low_bits(V x) { return (V)((Bits)x << 23); }
    // y - n ln(2) for an integer n, |n| <= 128. Without FMA, in two parts: the first has 10 bits,
    // so that n times it is exact.
    static QRNN_HD V minus_ln2_times(V y, V n) {
        return (y - n * set(0.693359375f)) + n * set(2.12194440e-4f);
    }
    // 1 / d for d >= 1; 0 at infinity. A result below 2^-126 may be 0 already.
    static QRNN_HD V reciprocal(V d) { return set(1.0f) / d; }
    // a / d for 1 <= d < 1000.
    static QRNN_HD V divide(V a, V d) { return a / d; }

    // Loads and stores take bytes: no alignment is required of the caller.
    template <class T>
    static QRNN_HD V load(const char* p) {
        return load_first<T>(p, width);
    }
    template <class T>
    static QRNN_HD void store(char* p, V x) {
        store_first<T>(p, x, width);
    }
    // The first n lanes, 0 < n <= width; the others load as 0 and are not stored.
    template <class T>
    static QRNN_HD V load_first(const char* p, int n) {
        T items[width] = {};
        memcpy(items, p, n * sizeof(T));
        return V{to_float(items[0]), to_float(items[1]), to_float(items[2]), to_float(items[3])};
    }
    template <class T>
    static QRNN_HD void store_first(char* p, V x, int n) {
        const T items[width] = {from_float<T>(x[0]), from_float<T>(x[1]), from_float<T>(x[2]),
                                from_float<T>(x[3])};
        memcpy(p, items, n * sizeof(T));
    }
};

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_LANES_PORTABLE_H_
