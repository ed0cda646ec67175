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
// number of lanes in it, M::Activations its sigmoid and tanh. lanes_portable.h has the plain one
// and says what each operation means.
#ifndef QRNN_DEPLOY_CORE_RECURRENCE_H_
#define QRNN_DEPLOY_CORE_RECURRENCE_H_

#include "activations.h"
#include "host_device.h"

namespace qrnn {

enum class Pooling { kF, kFO, kIFO, kIF };
enum class Activation { kTanh, kRelu, kIdentity };

QRNN_HD constexpr bool has_output_gate(Pooling p) {
    return p == Pooling::kFO || p == Pooling::kIFO;
}
QRNN_HD constexpr bool has_input_gate(Pooling p) { return p == Pooling::kIFO || p == Pooling::kIF; }

// Blocks of H columns in `gates`, in the order z, f, o, i, absent ones left out.
QRNN_HD constexpr int gate_count(Pooling p) { return 2 + has_output_gate(p) + has_input_gate(p); }
QRNN_HD constexpr int input_gate_block(Pooling p) { return has_output_gate(p) ? 3 : 2; }

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

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_RECURRENCE_H_
