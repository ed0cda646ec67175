// A run of consecutive steps as one map of the state: a step is affine in c, so a run is too.
// With it, spans of time are worked on side by side and joined afterwards; the state within a span
// is then found by `advance` from the true state at its start, with the same terms.
//
//   f, fo:   c <- c + (state - lost c)      lost = 1 - (1 - g_1) ... (1 - g_n) <= 0.5
//            c <- kept c + state            kept = (1 - g_1) ... (1 - g_n) < 0.5
//   ifo, if: c <- kept c + state            kept = f_1 ... f_n
//
// `state` is what the run makes of 0. For f and fo the smaller of the two shares is followed:
// where little is lost, 1 - g loses a small g to rounding (over 8192 steps of a slow channel the
// kept share would err by up to 2e-4); where little is kept, 1 - lost loses that, and of a large
// state what is wrongly kept drowns the small ones that follow. `share` is lost, or -kept: the sign
// bit says which, of 0 too.
#ifndef QRNN_DEPLOY_CORE_SEGMENT_H_
#define QRNN_DEPLOY_CORE_SEGMENT_H_

#include "recurrence.h"

namespace qrnn {

template <class M>
struct Segment {
    typename M::V share, state;
};

// A segment as it grows by steps. f and fo: lost + kept = 1, both exact relative to themselves.
template <class M>
struct Run {
    typename M::V kept, lost, state;
};

template <class M, Pooling P>
QRNN_HD Run<M> no_run() {
    return {M::set(1.0f), M::set(0.0f), M::set(0.0f)};
}
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
QRNN_HD Run<M> append(const Run<M>& run, const Terms<M>& terms) {
    Run<M> longer = run;
    if constexpr (has_input_gate(P)) {
        longer.kept = keep<M>(run.kept, terms.weight);
    } else {
        longer.lost = M::fma(terms.weight, run.kept, run.lost);
        longer.kept = M::fma(M::negate(terms.weight), run.kept, run.kept);
    }
    longer.state = advance<M, P>(run.state, terms);
    return longer;
}

// -kept, whatever sign rounding has given it.
template <class M>
QRNN_HD typename M::V kept_share(typename M::V kept) {
    return M::negate(M::absolute(kept));
}

template <class M, Pooling P>
QRNN_HD Segment<M> segment_of(const Run<M>& run) {
    if constexpr (has_input_gate(P)) {
        return {run.kept, run.state};
    } else {
        return {M::where_less(M::set(0.5f), run.lost, kept_share<M>(run.kept), run.lost),
                run.state};
    }
}

// The state after the run, from the state before it.
template <class M, Pooling P>
QRNN_HD typename M::V apply(const Segment<M>& run, typename M::V c) {
    if constexpr (has_input_gate(P)) {
        return M::fma(run.share, c, run.state);
    } else {
        return M::add(M::where_negative(run.share, M::set(0.0f), c),
                      M::fma(M::negate(run.share), c, run.state));
    }
}

// f and fo, of two lost shares a and b: a + b - a b. Where one is kept, what is kept of it is lost
// to the other: -(kept - kept b). Where both are, -(kept kept).
template <class M>
QRNN_HD typename M::V join_shares(typename M::V a, typename M::V b) {
    using V = typename M::V;
    const V none = M::set(0.0f);
    const V sum = M::add(M::where_negative(b, none, a), M::where_negative(a, none, b));
    const V share = M::fma(M::negate(a), b, sum);
    const V kept = kept_share<M>(share);
    // 1 - lost is exact there.
    const V both_lost = M::where_less(M::set(0.5f), share, M::sub(share, M::set(1.0f)), share);
    return M::where_negative(a, kept, M::where_negative(b, kept, both_lost));
}

template <class M, Pooling P>
QRNN_HD Segment<M> join(const Segment<M>& first, const Segment<M>& second) {
    Segment<M> both;
    if constexpr (has_input_gate(P)) {
        both.share = keep<M>(first.share, second.share);
    } else {
        both.share = join_shares<M>(first.share, second.share);
    }
    both.state = apply<M, P>(second, first.state);
    return both;
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_SEGMENT_H_
