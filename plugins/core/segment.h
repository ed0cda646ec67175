// A run of consecutive steps as one map of the state: a step is affine in c, so a run is too.
// With it, spans of time are worked on side by side and joined afterwards; the state within a span
// is then found by `advance` from the true state at its start, with the same terms.
//
//   f, fo:   c <- c + (state - lost c)      lost = 1 - (1 - g_1) ... (1 - g_n)
//   ifo, if: c <- kept c + state            kept = f_1 ... f_n
//
// `state` is what the run makes of 0. For f and fo the lost share is followed instead of the kept
// one, because 1 - g loses a small g to rounding: over 8192 steps of a slow channel the kept share
// would err by up to 2e-4.
#ifndef QRNN_DEPLOY_CORE_SEGMENT_H_
#define QRNN_DEPLOY_CORE_SEGMENT_H_

#include "recurrence.h"

namespace qrnn {

template <class M>
struct Segment {
    typename M::V share, state;
};

template <class M, Pooling P>
QRNN_HD Segment<M> no_steps() {
    return {M::set(has_input_gate(P) ? 1.0f : 0.0f), M::set(0.0f)};
}

// The kept share times another. It must not underflow to 0, or an infinite state would become NaN
// where the recurrence keeps it infinite; the least denormal times a finite state is far below
// what a state is rounded to.
template <class M>
QRNN_HD typename M::V keep(typename M::V kept, typename M::V factor) {
    const typename M::V least = M::set(0x1p-149f);
    return M::max_or_nan(M::mul(kept, factor), M::min_or_nan(M::min_or_nan(least, kept), factor));
}

template <class M, Pooling P>
QRNN_HD Segment<M> append(const Segment<M>& run, const Terms<M>& terms) {
    Segment<M> longer;
    if constexpr (has_input_gate(P)) {
        longer.share = keep<M>(run.share, terms.weight);
    } else {
        longer.share = advance<M, P>(run.share, Terms<M>{terms.weight, M::set(1.0f)});
    }
    longer.state = advance<M, P>(run.state, terms);
    return longer;
}

// The state after the run, from the state before it.
template <class M, Pooling P>
QRNN_HD typename M::V apply(const Segment<M>& run, typename M::V c) {
    if constexpr (has_input_gate(P)) {
        return M::fma(run.share, c, run.state);
    } else {
        return M::add(c, M::fma(M::negate(run.share), c, run.state));
    }
}

template <class M, Pooling P>
QRNN_HD Segment<M> join(const Segment<M>& first, const Segment<M>& second) {
    Segment<M> both;
    if constexpr (has_input_gate(P)) {
        both.share = keep<M>(first.share, second.share);
    } else {
        both.share = advance<M, P>(first.share, Terms<M>{second.share, M::set(1.0f)});
    }
    both.state = apply<M, P>(second, first.state);
    return both;
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_SEGMENT_H_
