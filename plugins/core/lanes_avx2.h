// Eight floats in an AVX2 register. The operations are those of lanes_portable.h.
// Include only in a translation unit compiled for AVX2, FMA and F16C.
#ifndef QRNN_DEPLOY_CORE_LANES_AVX2_H_
#define QRNN_DEPLOY_CORE_LANES_AVX2_H_

#include <immintrin.h>
#include <string.h>

#include "activations.h"
#include "host_device.h"
#include "storage.h"

namespace qrnn {

struct Avx2Lanes {
    using Activations = PolynomialActivations;
    using V = __m256;
    static constexpr int width = 8;

    static QRNN_HD V set(float x) { return _mm256_set1_ps(x); }
    static QRNN_HD V add(V a, V b) { return _mm256_add_ps(a, b); }
    static QRNN_HD V sub(V a, V b) { return _mm256_sub_ps(a, b); }
    static QRNN_HD V mul(V a, V b) { return _mm256_mul_ps(a, b); }
    static QRNN_HD V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
    // maxps and minps return their second operand where either one is NaN.
    static QRNN_HD V max_or_nan(V x, V limit) { return _mm256_max_ps(limit, x); }
    static QRNN_HD V min_or_nan(V x, V limit) { return _mm256_min_ps(limit, x); }
    static QRNN_HD V negate(V x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }
    static QRNN_HD V exponent_from_low_bits(V x) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
    }
    // One rounding: the error is that of ln(2) itself, at most 128 * 1.9e-9.
    static QRNN_HD V minus_ln2_times(V y, V n) { return _mm256_fnmadd_ps(n, set(0.693147181f), y); }
    static QRNN_HD V reciprocal(V d) { return _mm256_div_ps(set(1.0f), d); }
    static QRNN_HD V divide(V a, V d) { return _mm256_div_ps(a, d); }

    template <class T>
    static QRNN_HD V load(const char* p) {
        if constexpr (sizeof(T) == sizeof(float)) {
            return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
        } else {
            return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), T{});
        }
    }
    template <class T>
    static QRNN_HD void store(char* p, V x) {
        if constexpr (sizeof(T) == sizeof(float)) {
            _mm256_storeu_ps(reinterpret_cast<float*>(p), x);
        } else {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x, T{}));
        }
    }
    template <class T>
    static QRNN_HD V load_first(const char* p, int n) {
        char buffer[width * sizeof(T)] = {};
        memcpy(buffer, p, n * sizeof(T));
        return load<T>(buffer);
    }
    template <class T>
    static QRNN_HD void store_first(char* p, V x, int n) {
        char buffer[width * sizeof(T)];
        store<T>(buffer, x);
        memcpy(p, buffer, n * sizeof(T));
    }

  private:
    static QRNN_HD V widen(__m128i x, Float16) { return _mm256_cvtph_ps(x); }
    static QRNN_HD V widen(__m128i x, BFloat16) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
    }
    static QRNN_HD __m128i narrow(V x, Float16) {
        return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
    }
    static QRNN_HD __m128i narrow(V x, BFloat16) {
        const __m256i u = _mm256_castps_si256(x);
        const __m256i high = _mm256_srli_epi32(u, 16);
        const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
        const __m256i sum = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        const __m256i y = _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
        const __m256i packed = _mm256_packus_epi32(y, y);
        return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
    }
};

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_LANES_AVX2_H_
