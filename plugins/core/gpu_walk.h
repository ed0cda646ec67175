// The kernels in which a thread does all the steps of its lane: kStep and kWalk (gpu_kernels.h).
#ifndef QRNN_DEPLOY_CORE_GPU_WALK_H_
#define QRNN_DEPLOY_CORE_GPU_WALK_H_

#include "gpu_call.h"

namespace qrnn {

// kStep: T = 1. The values are loaded before the length is known: with one step they exist.
template <class T, Pooling P, bool kTanh, int kCount, class Context>
QRNN_HD void step_kernel(Context& context, const GpuCall<T>& a) {
    using L = Lane<T, P, kCount>;
    using C = typename L::C;
    using M = typename C::M;
    const L lane(a, context.block() * (a.warps * Context::kWarp) + context.thread());
    if (!lane.exists) return;
    typename C::Raw raw[L::kValues];
    lane.load(lane.start, raw);
    const typename C::V c = lane.state(a.c0);
    // Computed in any case, so that only the choice waits for the length.
    Stepped<M> to = step_of_raw<M, P, kTanh, C>(a, lane.parameters(a), c, raw);
    need(to.c);
    need(to.h);
    C::store(lane.h, lane.length > 0 ? to.h : M::set(0.0f));
    lane.store_state(a.c_T, lane.length > 0 ? to.c : c);
}

// kWalk: a thread walks through all steps of its lane, kAhead steps of loads in flight.
template <class T, Pooling P, bool kTanh, int kCount, int kAhead, class Context>
QRNN_HD void walk_kernel(Context& context, const GpuCall<T>& a) {
    using L = Lane<T, P, kCount>;
    using C = typename L::C;
    using M = typename C::M;
    const L lane(a, context.block() * (a.warps * Context::kWarp) + context.thread());
    if (!lane.exists) return;
    const int n = lane.length;
    typename C::V c = lane.state(a.c0);
    const SruParameters<M> parameters = lane.parameters(a);
    typename C::Raw raw[kAhead][L::kValues] = {};
    typename L::Place place = lane.place_at(0);
    T* h = lane.h_at(0);
    const auto step = [&](const typename C::Raw(&of_step)[L::kValues]) {
        const Stepped<M> to = step_of_raw<M, P, kTanh, C>(a, parameters, c, of_step);
        c = to.c;
        C::store(h, to.h);
        h += lane.h_step;
    };
    QRNN_UNROLL
    for (int d = 0; d < kAhead; ++d) {
        if (d < n) lane.load(place, raw[d]);
        lane.advance_place(place);
    }
    int left = n;
    for (; left >= kAhead; left -= kAhead) {
        QRNN_UNROLL
        for (int d = 0; d < kAhead; ++d) {
            step(raw[d]);
            if (kAhead + d < left) lane.load(place, raw[d]);
            lane.advance_place(place);
        }
    }
    QRNN_UNROLL
    for (int d = 0; d < kAhead - 1; ++d) {
        if (d < left) step(raw[d]);
    }
    lane.store_state(a.c_T, c);
    lane.store_zeros(n, a.steps);
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_WALK_H_
