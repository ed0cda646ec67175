// The QRNN pooling recurrence, once, for every value type (docs/op.md).
//
//   z = activation(x_z)
//   f, fo :   g = zoneout_scale * sigmoid(-x_f);   c <- c + g * (z - c)
//   ifo, if:  c <- sigmoid(x_f) * c + sigmoid(x_i) * z
//   fo, ifo:  h = sigmoid(x_o) * c          f, if:  h = c
//
// Bradbury et al. 2016, "Quasi-Recurrent Neural Networks", arXiv:1611.01576, section 2.
//
// A value type comes with a struct of operations M ("lanes"): M::V is the value, M::width the
// number of lanes in it. lanes_portable.h has the plain one and says what each operation means.
#ifndef QRNN_DEPLOY_CORE_RECURRENCE_H_
#define QRNN_DEPLOY_CORE_RECURRENCE_H_

#if defined(__CUDACC__)
#define QRNN_HD __host__ __device__ __forceinline__
#else
// Always inlined: translation units are compiled for different instruction sets, and a shared
// out-of-line copy could be the one that this CPU cannot run.
#define QRNN_HD inline __attribute__((always_inline))
#endif

namespace qrnn {

enum class Pooling { kF, kFO, kIFO, kIF };
enum class Activation { kTanh, kRelu, kIdentity };

constexpr bool has_output_gate(Pooling p) { return p == Pooling::kFO || p == Pooling::kIFO; }
constexpr bool has_input_gate(Pooling p) { return p == Pooling::kIFO || p == Pooling::kIF; }

// Blocks of H columns in `gates`, in the order z, f, o, i, absent ones left out.
constexpr int gate_count(Pooling p) { return 2 + has_output_gate(p) + has_input_gate(p); }
constexpr int input_gate_block(Pooling p) { return has_output_gate(p) ? 3 : 2; }

// 1 / (1 + exp(-x)), the relative accuracy kept in the tail; exactly 0 at -inf.
template <class M>
QRNN_HD typename M::V sigmoid(typename M::V x) {
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

// x P(x^2) / Q(x^2), minimax of the relative error on [-9.02, 9.02]: 2.1e-8; beyond, tanh is 1 in
// float32. No coefficient is negative, so nothing cancels.
template <class M>
QRNN_HD typename M::V tanh(typename M::V x) {
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

template <class M, Activation A>
QRNN_HD typename M::V activate(typename M::V x) {
    if constexpr (A == Activation::kTanh) {
        return tanh<M>(x);
    } else if constexpr (A == Activation::kRelu) {
        return M::max_or_nan(x, M::set(0.0f));
    } else {
        return x;
    }
}

// The next state from the state and the pre-activations; xi is ignored without an input gate.
template <class M, Pooling P, Activation A>
QRNN_HD typename M::V next_state(typename M::V c, typename M::V xz, typename M::V xf,
                                 typename M::V xi, typename M::V zoneout_scale) {
    using V = typename M::V;
    const V z = activate<M, A>(xz);
    if constexpr (has_input_gate(P)) {
        return M::fma(sigmoid<M>(xf), c, M::mul(sigmoid<M>(xi), z));
    } else {
        // Not f c + (1 - f) z: where f is near 1, rounding 1 - f loses the candidate's weight.
        const V g = M::mul(zoneout_scale, sigmoid<M>(M::negate(xf)));
        return M::fma(g, M::sub(z, c), c);
    }
}

// The hidden output from the new state; xo is ignored without an output gate.
template <class M, Pooling P>
QRNN_HD typename M::V hidden(typename M::V c, typename M::V xo) {
    if constexpr (has_output_gate(P)) {
        return M::mul(sigmoid<M>(xo), c);
    } else {
        return c;
    }
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_RECURRENCE_H_
