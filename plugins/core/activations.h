// sigmoid and tanh, as policies: how exact and how costly is a choice of the lanes, made by their
// member `Activations`. A policy's functions are templates over the lanes they are computed in.
#ifndef QRNN_DEPLOY_CORE_ACTIVATIONS_H_
#define QRNN_DEPLOY_CORE_ACTIVATIONS_H_

#include "host_device.h"

namespace qrnn {

// CPU: multiplications and additions, and one division each.
struct PolynomialActivations {
    // 1 / (1 + exp(-x)), the relative accuracy kept in the tail; exactly 0 at -inf.
    template <class M>
    static QRNN_HD typename M::V sigmoid(typename M::V x) {
        using V = typename M::V;
        // exp(y) = 2^n exp(r) with |r| <= ln(2) / 2. Below -88 the power is 0, above 88.8 infinite.
        const V y = M::min_or_nan(M::max_or_nan(M::negate(x), M::set(-88.0f)), M::set(89.0f));
        // Adding 1.5 * 2^23 rounds to an integer; the extra 127 makes its low bits the biased
        // exponent of 2^n, so that one shift forms the power.
        const V magic = M::set(12582912.0f + 127.0f);
        const V shifted = M::fma(y, M::set(1.44269504f), magic);
        const V power = M::exponent_from_low_bits(shifted);
        const V r = M::minus_ln2_times(y, M::sub(shifted, magic));
        // Minimax of the relative error, the first two coefficients fixed: 1.1e-7.
        V e = M::set(0x1.106220p-7f);
        e = M::fma(e, r, M::set(0x1.572adap-5f));
        e = M::fma(e, r, M::set(0x1.5557b0p-3f));
        e = M::fma(e, r, M::set(0x1.fffdfap-2f));
        e = M::fma(e, r, M::set(1.0f));
        e = M::fma(e, r, M::set(1.0f));
        return M::reciprocal(M::fma(power, e, M::set(1.0f)));
    }

    // x P(x^2) / Q(x^2), minimax of the relative error on [-9.02, 9.02]: 2.1e-8; beyond, tanh is 1
    // in float32. No coefficient is negative, so nothing cancels.
    template <class M>
    static QRNN_HD typename M::V tanh(typename M::V x) {
        using V = typename M::V;
        const V y = M::min_or_nan(M::max_or_nan(x, M::set(-9.02f)), M::set(9.02f));
        const V u = M::mul(y, y);
        V p = M::set(0x1.c9a334p-27f);
        V q = M::set(0x1.a0b800p-21f);
        p = M::fma(p, u, M::set(0x1.59552cp-16f));
        q = M::fma(q, u, M::set(0x1.5841b8p-12f));
        p = M::fma(p, u, M::set(0x1.c9f83ep-9f));
        q = M::fma(q, u, M::set(0x1.a7df1ap-6f));
        p = M::fma(p, u, M::set(0x1.12043ep-3f));
        q = M::fma(q, u, M::set(0x1.de5768p-2f));
        p = M::fma(p, u, M::set(1.0f));
        q = M::fma(q, u, M::set(1.0f));
        return M::divide(M::mul(y, p), q);
    }
};

// GPU, float32: two operations of the special-function unit each, relative error a few 1e-7. In
// the far tail of sigmoid the rounding of x log2(e) dominates, |x| 6e-8.
struct FastActivations {
    template <class M>
    static QRNN_HD typename M::V sigmoid(typename M::V x) {
        const typename M::V e = M::exp2(M::mul(x, M::set(-1.44269504f)));
        return M::fast_reciprocal(M::add(e, M::set(1.0f)));
    }
    // 1 - 2 / (exp(2|x|) + 1) cancels near 0; there an odd polynomial, minimax on |x| < 0.6: 8e-8.
    template <class M>
    static QRNN_HD typename M::V tanh(typename M::V x) {
        using V = typename M::V;
        const V size = M::absolute(x);
        const V e = M::exp2(M::mul(size, M::set(2.88539008f)));
        const V large =
            M::fma(M::fast_reciprocal(M::add(e, M::set(1.0f))), M::set(-2.0f), M::set(1.0f));
        const V u = M::mul(x, x);
        V p = M::set(0x1.ff9844p-7f);
        p = M::fma(p, u, M::set(-0x1.abb818p-5f));
        p = M::fma(p, u, M::set(0x1.10a712p-3f));
        p = M::fma(p, u, M::set(-0x1.555368p-2f));
        const V small = M::fma(M::mul(x, u), p, x);
        return M::where_less(size, M::set(0.6f), small, M::copy_sign(large, x));
    }
};

// GPU, 16-bit storage: the candidate by the hardware's tanh, relative error 2^-11: about what
// rounding the pre-activation to float16 did already. Never a gate: as a sigmoid, 0.5 + 0.5 tanh(x
// / 2), it errs 2^-12 absolutely, so that a closed gate would leak, and infinity times it could be
// NaN.
struct HalfActivations : FastActivations {
    template <class M>
    static QRNN_HD typename M::V tanh(typename M::V x) {
        return M::hardware_tanh(x);
    }
};

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_ACTIVATIONS_H_
