// Sixteen floats in an AVX-512 register. The operations are those of lanes_portable.h.
// Include only in a translation unit compiled for AVX-512 F, BW, DQ and VL.
#ifndef QRNN_DEPLOY_CORE_LANES_AVX512_H_
#define QRNN_DEPLOY_CORE_LANES_AVX512_H_

#include <immintrin.h>

#include "activations.h"
#include "host_device.h"
#include "storage.h"

namespace qrnn {

struct Avx512Lanes {
    using Activations = PolynomialActivations;
    using V = __m512;
    static constexpr int width = 16;

    static QRNN_HD V set(float x) { return _mm512_set1_ps(x); }
    static QRNN_HD V add(V a, V b) { return _mm512_add_ps(a, b); }
    static QRNN_HD V sub(V a, V b) { return _mm512_sub_ps(a, b); }
    static QRNN_HD V mul(V a, V b) { return _mm512_mul_ps(a, b); }
    static QRNN_HD V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
    // maxps and minps return their second operand where either one is NaN.
    static QRNN_HD V max_or_nan(V x, V limit) { return _mm512_max_ps(limit, x); }
    static QRNN_HD V min_or_nan(V x, V limit) { return _mm512_min_ps(limit, x); }
    static QRNN_HD V negate(V x) { return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f)); }
    static QRNN_HD V exponent_from_low_bits(V x) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
    }
    // One rounding: the error is that of ln(2) itself, at most 128 * 1.9e-9.
    static QRNN_HD V minus_ln2_times(V y, V n) { return _mm512_fnmadd_ps(n, set(0.693147181f), y); }
    // The estimate errs by at most 2^-14; one Newton step brings that below 2^-24. At infinity the
    // step would make a NaN, so above 2^126, where the result is denormal, it gives 0.
    static QRNN_HD V reciprocal(V d) {
        const V y = _mm512_rcp14_ps(d);
        const V error = _mm512_fnmadd_ps(d, y, set(1.0f));
        const __mmask16 normal = _mm512_cmp_ps_mask(d, set(0x1p126f), _CMP_NGT_UQ);
        return _mm512_maskz_fmadd_ps(normal, error, y, y);
    }
    static QRNN_HD V divide(V a, V d) {
        const V y = _mm512_rcp14_ps(d);
        const V error = _mm512_fnmadd_ps(d, y, set(1.0f));
        return _mm512_mul_ps(a, _mm512_fmadd_ps(error, y, y));
    }

    template <class T>
    static QRNN_HD V load(const char* p) {
        if constexpr (sizeof(T) == sizeof(float)) {
            return _mm512_loadu_ps(p);
        } else {
            return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), T{});
        }
    }
    template <class T>
    static QRNN_HD void store(char* p, V x) {
        if constexpr (sizeof(T) == sizeof(float)) {
            _mm512_storeu_ps(p, x);
        } else {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x, T{}));
        }
    }
    template <class T>
    static QRNN_HD V load_first(const char* p, int n) {
        const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
        if constexpr (sizeof(T) == sizeof(float)) {
            return _mm512_maskz_loadu_ps(mask, p);
        } else {
            return widen(_mm256_maskz_loadu_epi16(mask, p), T{});
        }
    }
    template <class T>
    static QRNN_HD void store_first(char* p, V x, int n) {
        const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
        if constexpr (sizeof(T) == sizeof(float)) {
            _mm512_mask_storeu_ps(p, mask, x);
        } else {
            _mm256_mask_storeu_epi16(p, mask, narrow(x, T{}));
        }
    }

  private:
    static QRNN_HD V widen(__m256i x, Float16) { return _mm512_cvtph_ps(x); }
    static QRNN_HD V widen(__m256i x, BFloat16) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
    }
    static QRNN_HD __m256i narrow(V x, Float16) {
        return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
    }
    static QRNN_HD __m256i narrow(V x, BFloat16) {
        const __m512i u = _mm512_castps_si512(x);
        const __m512i high = _mm512_srli_epi32(u, 16);
        const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
        const __m512i sum = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
        const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        return _mm512_cvtepi32_epi16(
            _mm512_mask_blend_epi32(nan, _mm512_srli_epi32(sum, 16), quiet));
    }
};

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_LANES_AVX512_H_
