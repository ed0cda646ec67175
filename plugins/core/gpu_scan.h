// Spans of time, and the kernel in which the warps of a block share it: kScan (gpu_kernels.h).
#ifndef QRNN_DEPLOY_CORE_GPU_SCAN_H_
#define QRNN_DEPLOY_CORE_GPU_SCAN_H_

#include "gpu_call.h"
#include "segment.h"

namespace qrnn {

// What kScan and kChain do with the kSpan steps of one thread that begin at step `begin`.
template <class T, Pooling P, bool kTanh, int kCount, int kSteps>
struct Span {
    using L = Lane<T, P, kCount>;
    using C = typename L::C;
    using M = typename C::M;
    using V = typename C::V;
    using Raw = typename C::Raw;

    Terms<M> terms[kSteps];
    Raw output[kSteps];

    static QRNN_HD void load(const L& lane, int begin, Raw (&raw)[kSteps][L::kValues]) {
        const int left = lane.length - begin;
        typename L::Place place = lane.place_at(begin);
        QRNN_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            if (s < left) lane.load(place, raw[s]);
            lane.advance_place(place);
        }
    }

    // The span as a map of the state. Steps beyond the length count as what was last loaded:
    // nothing that follows them is used.
    QRNN_HD Segment<M> prepare(const GpuCall<T>& a, const Raw (&raw)[kSteps][L::kValues]) {
        Run<M> run = no_run<M, P>();
        QRNN_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            terms[s] = terms_of_raw<M, P, kTanh, C>(a, raw[s]);
            output[s] = raw[s][output_gate_block(P)];
            run = append<M, P>(run, terms[s]);
        }
        return segment_of<M, P>(run);
    }

    // From the state before the span: h, and c_T where the span holds the row's last step. Every
    // step is computed, only those within the length are stored.
    QRNN_HD void replay(const GpuCall<T>& a, const L& lane, int begin, V c) const {
        const int left = lane.length - begin;
        T* p = lane.h_at(begin);
        V last = c;
        QRNN_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            c = advance<M, P>(c, terms[s]);
            const V h = hidden<M, P>(c, C::value(output[s]));
            if (s < left) {
                C::store(p, h);
                last = c;
            }
            p += lane.h_step;
        }
        if (left > kSteps) return;
        if (left > 0) lane.store_state(a.c_T, last);
        if (!lane.exists) return;
        const int end = begin + kSteps < a.steps ? begin + kSteps : a.steps;
        lane.store_zeros(left > 0 ? lane.length : begin, end);
    }
};

// Segments in memory, [2, kCount, kWarp] floats each.
template <class Context, int kCount>
constexpr int kSegmentFloats = 2 * kCount * Context::kWarp;

template <class Context, int kCount, class M>
QRNN_HD void put_segment(float* p, int x, const Segment<M>& run) {
    put(p + x, Context::kWarp, run.share);
    put(p + kCount * Context::kWarp + x, Context::kWarp, run.state);
}
template <class Context, int kCount, class M>
QRNN_HD Segment<M> get_segment(const float* p, int x) {
    Segment<M> run;
    get(p + x, Context::kWarp, &run.share);
    get(p + kCount * Context::kWarp + x, Context::kWarp, &run.state);
    return run;
}

// kScan: a block owns a group of lanes. Its warps take successive spans of a chunk; each then
// joins the segments of those before it. The segments alternate between two buffers, so that one
// barrier per chunk is enough. Shared memory: 2 * warps segments.
template <class T, Pooling P, bool kTanh, int kCount, int kSteps, class Context>
QRNN_HD void scan_kernel(Context& context, const GpuCall<T>& a) {
    using S = Span<T, P, kTanh, kCount, kSteps>;
    using L = typename S::L;
    using M = typename S::M;
    constexpr int kFloats = kSegmentFloats<Context, kCount>;
    const int x = context.thread() % Context::kWarp;
    const int warp = context.thread() / Context::kWarp;
    const L lane(a, context.block() * Context::kWarp + x);
    const int chunk_steps = a.warps * kSteps;

    typename S::V c = lane.state(a.c0);  // at the start of the chunk, the same in every warp
    const typename S::V c0 = c;
    typename S::Raw raw[kSteps][L::kValues] = {};
    S::load(lane, warp * kSteps, raw);
    float* buffer = context.shared();
    float* other = buffer + a.warps * kFloats;
    for (int chunk = 0; chunk < a.steps; chunk += chunk_steps) {
        const int begin = chunk + warp * kSteps;
        S span;
        put_segment<Context, kCount>(buffer + warp * kFloats, x, span.prepare(a, raw));
        S::load(lane, begin + chunk_steps, raw);
        context.barrier();
        typename S::V mine = c;
        QRNN_UNROLL_BY(4)
        for (int w = 0; w < a.warps; ++w) {
            if (w == warp) mine = c;
            c = apply<M, P>(get_segment<Context, kCount, M>(buffer + w * kFloats, x), c);
        }
        span.replay(a, lane, begin, mine);
        float* const last = buffer;
        buffer = other;
        other = last;
    }
    // After a barrier: c_T may be c0, which the other warps have read.
    if (lane.exists && lane.length == 0 && warp == 0) lane.store_state(a.c_T, c0);
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_SCAN_H_
