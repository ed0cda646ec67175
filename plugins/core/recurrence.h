// The recurrences of QRNN pooling and of SRU, once, for every value type (docs/op.md).
//
// QRNN: z = activation(x_z)
//   f, fo :   g = zoneout_scale * sigmoid(-x_f);   c <- c + g * (z - c)
//   ifo, if:  c <- sigmoid(x_f) * c + sigmoid(x_i) * z
//   fo, ifo:  h = sigmoid(x_o) * c          f, if:  h = c
//
// SRU:  g = sigmoid(-(x_f + v_f c + b_f)),  r = sigmoid(x_r + v_r c + b_r), of the state before
//       c <- c + g * (x_z - c)
//       h = x + r * (activation(c) - x), or r * activation(c) without a highway
//
// Bradbury et al. 2016, "Quasi-Recurrent Neural Networks", arXiv:1611.01576, section 2; Lei et al.
// 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence", arXiv:1709.02755, section 2.
//
// A value type comes with a struct of operations M ("lanes"): M::V is the value, M::width the
// number of lanes in it, M::Activations its sigmoid and tanh. lanes_portable.h has the plain one
// and says what each operation means.
#ifndef QRNN_DEPLOY_CORE_RECURRENCE_H_
#define QRNN_DEPLOY_CORE_RECURRENCE_H_

#include "activations.h"
#include "host_device.h"

namespace qrnn {

// The SRUs differ in the highway's input x: a block of the gates, the array `skip`, or none.
enum class Pooling { kF, kFO, kIFO, kIF, kSRU, kSRUInput, kSRUNoSkip };
enum class Activation { kTanh, kRelu, kIdentity };

QRNN_HD constexpr bool has_output_gate(Pooling p) {
    return p == Pooling::kFO || p == Pooling::kIFO;
}
QRNN_HD constexpr bool has_input_gate(Pooling p) { return p == Pooling::kIFO || p == Pooling::kIF; }
// Its gates depend on the state, so that no run of steps is one affine map (segment.h).
QRNN_HD constexpr bool is_sru(Pooling p) {
    return p == Pooling::kSRU || p == Pooling::kSRUInput || p == Pooling::kSRUNoSkip;
}
QRNN_HD constexpr bool reads_skip(Pooling p) { return p == Pooling::kSRUInput; }
QRNN_HD constexpr bool takes_zoneout(Pooling p) { return !has_input_gate(p) && !is_sru(p); }

// Blocks of H columns in `gates`, in the order z, f, o, i, or z, f, r, x; absent ones left out.
QRNN_HD constexpr int gate_count(Pooling p) {
    if (is_sru(p)) return p == Pooling::kSRU ? 4 : 3;
    return 2 + has_output_gate(p) + has_input_gate(p);
}
QRNN_HD constexpr int input_gate_block(Pooling p) { return has_output_gate(p) ? 3 : 2; }
// The output gate's block; any where there is none.
QRNN_HD constexpr int output_gate_block(Pooling p) { return has_output_gate(p) ? 2 : 0; }
// What a step reads of a channel: the gates, then skip.
QRNN_HD constexpr int value_count(Pooling p) { return gate_count(p) + reads_skip(p); }

template <class M, Activation A>
QRNN_HD typename M::V activate(typename M::V x) {
    if constexpr (A == Activation::kTanh) {
        return M::Activations::template tanh<M>(x);
    } else if constexpr (A == Activation::kRelu) {
        return M::max_or_nan(x, M::set(0.0f));
    } else {
        return x;
    }
}

// What one step does to the state, whatever the state is.
//   f, fo:   weight = g, input = z        ifo, if:  weight = f, input = i z
template <class M>
struct Terms {
    typename M::V weight, input;
};

// From the candidate and the pre-activations; xi is ignored without an input gate.
template <class M, Pooling P>
QRNN_HD Terms<M> terms_of(typename M::V z, typename M::V xf, typename M::V xi,
                          typename M::V zoneout_scale) {
    using Activations = typename M::Activations;
    if constexpr (has_input_gate(P)) {
        return {Activations::template sigmoid<M>(xf),
                M::mul(Activations::template sigmoid<M>(xi), z)};
    } else {
        return {M::mul(zoneout_scale, Activations::template sigmoid<M>(M::negate(xf))), z};
    }
}

// The next state.
template <class M, Pooling P>
QRNN_HD typename M::V advance(typename M::V c, const Terms<M>& terms) {
    if constexpr (has_input_gate(P)) {
        return M::fma(terms.weight, c, terms.input);
    } else {
        // Not f c + (1 - f) z: where f is near 1, rounding 1 - f loses the candidate's weight.
        return M::fma(terms.weight, M::sub(terms.input, c), c);
    }
}

// The hidden output from the new state; xo is ignored without an output gate.
template <class M, Pooling P>
QRNN_HD typename M::V hidden(typename M::V c, typename M::V xo) {
    if constexpr (has_output_gate(P)) {
        return M::mul(M::Activations::template sigmoid<M>(xo), c);
    } else {
        return c;
    }
}

// An SRU's parameters of a channel: what its gates make of the state, and their biases.
template <class M>
struct SruParameters {
    typename M::V weight_f, weight_r, bias_f, bias_r;
};

// What a step leaves.
template <class M>
struct Stepped {
    typename M::V c, h;
};

// From the values in the order of value_count; `activate` is the activation.
template <class M, Pooling P, class Activate>
QRNN_HD Stepped<M> sru_step(typename M::V c, const typename M::V (&x)[value_count(P)],
                            const SruParameters<M>& of, const Activate& activate) {
    using V = typename M::V;
    using Activations = typename M::Activations;
    const V f = M::fma(of.weight_f, c, M::add(x[1], of.bias_f));
    const V r = Activations::template sigmoid<M>(M::fma(of.weight_r, c, M::add(x[2], of.bias_r)));
    // As in advance: by the weight of the candidate, which 1 - sigmoid(f) would lose.
    const V g = Activations::template sigmoid<M>(M::negate(f));
    const V next = M::fma(g, M::sub(x[0], c), c);
    if constexpr (P == Pooling::kSRUNoSkip) {
        return {next, M::mul(r, activate(next))};
    } else {
        return {next, M::fma(r, M::sub(activate(next), x[3]), x[3])};
    }
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_RECURRENCE_H_
