// The bodies of the GPU kernels, as templates over a thread context, so that the same lines run on
// the GPU and, with real threads and barriers, in the tests of a machine without one (docs/gpu.md).
//
// A context has
//   kWarp                         threads that hold neighbouring lanes of one group
//   thread(), block()             the indices of this thread
//   barrier()                     of the block's threads
//   shared()                      the block's memory, floats
//   take_ticket(counter)          an atomic increment; the old value
//   publish(word, value)          an atomic store, seen by other blocks at some later time
//   peek(word)                    an atomic load
//   publish_in_order, peek_in_order  the same; what came before the store comes before what follows
//                                 a load that saw it
//   pause()                       between two peeks
//
// Walk order: step i of a row is t = i, or t = length-1-i where `reverse`; beyond the length both
// are t = i, and h is zero there.
#ifndef QRNN_DEPLOY_CORE_GPU_KERNELS_H_
#define QRNN_DEPLOY_CORE_GPU_KERNELS_H_

#include <stdint.h>

#include "gpu_lanes.h"
#include "gpu_plan.h"
#include "segment.h"

#if defined(__CUDA_ARCH__)
#define QRNN_UNROLL _Pragma("unroll")
#define QRNN_UNROLL_BY(n) QRNN_PRAGMA(unroll n)
#define QRNN_PRAGMA(text) _Pragma(#text)
#else
#define QRNN_UNROLL
#define QRNN_UNROLL_BY(n)
#endif

namespace qrnn {

template <class T>
struct GpuCall {
    const T* gates;
    const float* c0;
    const int64_t* lengths;
    T* h;
    float* c_T;
    int64_t batch, hidden;
    int steps;
    bool reverse;
    float zoneout_scale;
    float least_candidate;  // where the activation is not tanh: 0 for relu, -inf for identity
    // kScan and kChain
    int warps;
    // kChain
    uint32_t* tickets;   // [groups]
    uint64_t* segments;  // [chunks, groups, channels_per_thread, kWarp]
    uint64_t* states;    // [anchors, groups, channels_per_thread, kWarp]
    int groups;
};

// What the arguments give; the rest is the launch's.
template <class T>
GpuCall<T> make_call(const PoolArguments& a) {
    GpuCall<T> call{};
    call.gates = static_cast<const T*>(a.gates);
    call.c0 = static_cast<const float*>(a.c0);
    call.lengths = static_cast<const int64_t*>(a.lengths);
    call.h = static_cast<T*>(a.h);
    call.c_T = static_cast<float*>(a.c_T);
    call.batch = a.batch;
    call.hidden = a.hidden;
    call.steps = static_cast<int>(a.steps);
    call.reverse = a.reverse;
    call.zoneout_scale = a.zoneout_scale;
    call.least_candidate = a.activation == Activation::kRelu ? 0.0f : -HUGE_VALF;
    return call;
}

// The channels of one thread, and where they lie.
template <class T, Pooling P, int kCount>
struct Lane {
    using C = Channels<T, kCount>;
    static constexpr int kGates = gate_count(P);

    bool exists = false;
    int length = 0;  // 0 where the lane does not exist
    int64_t index;   // in [B, H]
    const T* gates;  // of t = 0
    T* h;            // of t = 0
    int64_t block;   // elements from one gate to the next
    // Elements from one step of the walk to the next, negative where it is reversed.
    int64_t gates_step, h_step;
    int first = 0;  // t of step 0

    QRNN_HD Lane(const GpuCall<T>& a, int64_t position) : index(position * kCount) {
        const int64_t lanes = a.batch * a.hidden;
        exists = index < lanes;
        if (!exists) index = 0;
        // A 64-bit division costs a hundred instructions.
        const int64_t row = lanes <= INT32_MAX
                                ? static_cast<int64_t>(static_cast<uint32_t>(index) /
                                                       static_cast<uint32_t>(a.hidden))
                                : index / a.hidden;
        block = a.hidden;
        gates = a.gates + (row * kGates * a.hidden + (index - row * a.hidden));
        h = a.h + index;
        if (exists) {
            const int64_t wanted = a.lengths[row];
            length = static_cast<int>(wanted < 0 ? 0 : wanted > a.steps ? a.steps : wanted);
        }
        h_step = lanes;
        if (a.reverse) {
            h_step = -lanes;
            first = length - 1;
        }
        gates_step = h_step * kGates;
    }

    // Where step i is read and written. They may lie outside of the arrays where i has no step.
    QRNN_HD const T* gates_at(int i) const {
        return gates + (first * lanes() + i * h_step) * kGates;
    }
    QRNN_HD T* h_at(int i) const { return h + (first * lanes() + i * h_step); }
    QRNN_HD void load(const T* p, typename C::Raw (&raw)[kGates]) const {
        QRNN_UNROLL
        for (int gate = 0; gate < kGates; ++gate) raw[gate] = C::load(p + gate * block);
    }
    QRNN_HD void store_zeros(int from, int to) const {
        T* p = h + from * lanes();
        QRNN_UNROLL_BY(1)
        for (int t = from; t < to; ++t, p += lanes()) C::store(p, C::M::set(0.0f));
    }
    QRNN_HD typename C::V state(const float* states) const {
        typename C::V c = C::M::set(0.0f);
        if (exists) get(states + index, 1, &c);
        return c;
    }
    QRNN_HD void store_state(float* states, typename C::V c) const { put(states + index, 1, c); }

  private:
    QRNN_HD int64_t lanes() const { return h_step < 0 ? -h_step : h_step; }
};

template <class M, Pooling P, bool kTanh, class C, class T>
QRNN_HD Terms<M> terms_of_raw(const GpuCall<T>& a, const typename C::Raw (&raw)[gate_count(P)]) {
    using V = typename M::V;
    const V xz = C::value(raw[0]);
    V z;
    if constexpr (kTanh) {
        z = activate<M, Activation::kTanh>(xz);
    } else {
        z = M::max_or_nan(xz, M::set(a.least_candidate));
    }
    V xi = xz;
    if constexpr (has_input_gate(P)) xi = C::value(raw[input_gate_block(P)]);
    return terms_of<M, P>(z, C::value(raw[1]), xi, M::set(a.zoneout_scale));
}

// The raw values of the gate that hidden() needs, of any gate where it needs none.
template <Pooling P, class Raw>
QRNN_HD Raw output_gate(const Raw (&raw)[gate_count(P)]) {
    return raw[has_output_gate(P) ? 2 : 0];
}

// kStep: T = 1. The gates are loaded before the length is known: with one step they exist.
template <class T, Pooling P, bool kTanh, int kCount, class Context>
QRNN_HD void step_kernel(Context& context, const GpuCall<T>& a) {
    using L = Lane<T, P, kCount>;
    using C = typename L::C;
    using M = typename C::M;
    const L lane(a, context.block() * (a.warps * Context::kWarp) + context.thread());
    if (!lane.exists) return;
    typename C::Raw raw[L::kGates];
    lane.load(lane.gates, raw);
    typename C::V c = lane.state(a.c0);
    // Computed in any case, so that only the choice waits for the length.
    typename C::V next = advance<M, P>(c, terms_of_raw<M, P, kTanh, C>(a, raw));
    typename C::V h = hidden<M, P>(next, C::value(output_gate<P>(raw)));
    need(next);
    need(h);
    C::store(lane.h, lane.length > 0 ? h : M::set(0.0f));
    lane.store_state(a.c_T, lane.length > 0 ? next : c);
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
    typename C::Raw raw[kAhead][L::kGates] = {};
    const T* p = lane.gates_at(0);
    T* h = lane.h_at(0);
    const auto step = [&](const typename C::Raw(&of_step)[L::kGates]) {
        c = advance<M, P>(c, terms_of_raw<M, P, kTanh, C>(a, of_step));
        C::store(h, hidden<M, P>(c, C::value(output_gate<P>(of_step))));
        h += lane.h_step;
    };
    QRNN_UNROLL
    for (int d = 0; d < kAhead; ++d) {
        if (d < n) lane.load(p, raw[d]);
        p += lane.gates_step;
    }
    int left = n;
    for (; left >= kAhead; left -= kAhead) {
        QRNN_UNROLL
        for (int d = 0; d < kAhead; ++d) {
            step(raw[d]);
            if (kAhead + d < left) lane.load(p, raw[d]);
            p += lane.gates_step;
        }
    }
    QRNN_UNROLL
    for (int d = 0; d < kAhead - 1; ++d) {
        if (d < left) step(raw[d]);
    }
    lane.store_state(a.c_T, c);
    lane.store_zeros(n, a.steps);
}

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

    static QRNN_HD void load(const L& lane, int begin, Raw (&raw)[kSteps][L::kGates]) {
        const int left = lane.length - begin;
        const T* p = lane.gates_at(begin);
        QRNN_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            if (s < left) lane.load(p, raw[s]);
            p += lane.gates_step;
        }
    }

    // The span as a map of the state. Steps beyond the length count as what was last loaded:
    // nothing that follows them is used.
    QRNN_HD Segment<M> prepare(const GpuCall<T>& a, const Raw (&raw)[kSteps][L::kGates]) {
        Run<M> run = no_run<M, P>();
        QRNN_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            terms[s] = terms_of_raw<M, P, kTanh, C>(a, raw[s]);
            output[s] = output_gate<P>(raw[s]);
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
    typename S::Raw raw[kSteps][L::kGates] = {};
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

// A segment or a state as one word, so that it is published and read as a whole. A word of zeros is
// not there yet: no bits of a share are inverted to 0, since its NaN is made the usual one.
QRNN_HD uint64_t segment_word(float share, float state) {
    const uint32_t bits = share != share ? 0x7fc00000u : storage_detail::bits(share);
    return static_cast<uint64_t>(~bits) << 32 | storage_detail::bits(state);
}
QRNN_HD uint64_t state_word(float state) { return uint64_t{1} << 32 | storage_detail::bits(state); }
QRNN_HD bool is_there(uint64_t word) { return word >> 32 != 0; }
QRNN_HD float share_in(uint64_t word) {
    return storage_detail::value(~static_cast<uint32_t>(word >> 32));
}
QRNN_HD float state_in(uint64_t word) { return storage_detail::value(static_cast<uint32_t>(word)); }

// kChain: a block takes a chunk of its group, in the order of the group's tickets: the blocks of
// all earlier chunks have started, so waiting for them ends. It publishes its segment before it
// waits; then it joins the segments since the last anchor, its warps a share each, always in the
// same order. Anchors (every kAnchorEvery-th chunk) publish the state at their end, so that the
// number of segments to join stays bounded. Shared memory: (2 * warps + 1) segments.
//
// c0 is read by the blocks of chunk 0 alone, before their second barrier, and c_T is written by
// those who have seen what they published in order after it: c0 and c_T may be one.
template <class T, Pooling P, bool kTanh, int kCount, int kSteps, class Context>
QRNN_HD void chain_kernel(Context& context, const GpuCall<T>& a) {
    using S = Span<T, P, kTanh, kCount, kSteps>;
    using L = typename S::L;
    using M = typename S::M;
    using V = typename S::V;
    constexpr int kFloats = kSegmentFloats<Context, kCount>;
    constexpr int kWords = kCount * Context::kWarp;
    constexpr int kAtOnce = 4;                        // segments whose words are asked for together
    float* const own = context.shared();              // of this chunk's spans
    float* const joined = own + a.warps * kFloats;    // of each warp's share of earlier chunks
    float* const extra = joined + a.warps * kFloats;  // the ticket
    const int x = context.thread() % Context::kWarp;
    const int warp = context.thread() / Context::kWarp;
    const int group = static_cast<int>(context.block() % a.groups);

    if (context.thread() == 0) {
        const uint32_t ticket = context.take_ticket(a.tickets + group);
        memcpy(extra, &ticket, sizeof ticket);
    }
    const L lane(a, static_cast<int64_t>(group) * Context::kWarp + x);
    context.barrier();
    uint32_t ticket;
    memcpy(&ticket, extra, sizeof ticket);
    const int chunk = static_cast<int>(ticket);
    const int begin = (chunk * a.warps + warp) * kSteps;
    const auto segment_at = [&](int k) {
        return a.segments + (static_cast<int64_t>(k) * a.groups + group) * kWords + x;
    };
    const auto state_at = [&](int anchor) {
        return a.states +
               (static_cast<int64_t>(anchor / kAnchorEvery) * a.groups + group) * kWords + x;
    };

    V c = chunk == 0 ? lane.state(a.c0) : M::set(0.0f);
    S span;
    {
        typename S::Raw raw[kSteps][L::kGates] = {};
        S::load(lane, begin, raw);
        put_segment<Context, kCount>(own + warp * kFloats, x, span.prepare(a, raw));
    }
    context.barrier();

    // The state before the chunk, in every warp.
    if (chunk > 0) {
        if (warp == 0) {
            Segment<M> run = no_steps<M, P>();
            QRNN_UNROLL_BY(4)
            for (int w = 0; w < a.warps; ++w) {
                run = join<M, P>(run, get_segment<Context, kCount, M>(own + w * kFloats, x));
            }
            QRNN_UNROLL
            for (int i = 0; i < kCount; ++i) {
                context.publish(segment_at(chunk) + i * Context::kWarp,
                                segment_word(channel(run.share, i), channel(run.state, i)));
            }
        }
        const int anchor = (chunk - 1) / kAnchorEvery * kAnchorEvery;
        const int earlier = chunk - anchor - 1;  // segments to join
        const int from = anchor + 1 + earlier * warp / a.warps;
        const int to = anchor + 1 + earlier * (warp + 1) / a.warps;
        Segment<M> run = no_steps<M, P>();
        QRNN_UNROLL_BY(1)
        for (int first = from; first < to; first += kAtOnce) {
            uint64_t words[kAtOnce][kCount] = {};
            QRNN_UNROLL
            for (int k = 0; k < kAtOnce; ++k) {
                QRNN_UNROLL
                for (int i = 0; i < kCount; ++i) {
                    if (first + k < to) {
                        words[k][i] = context.peek(segment_at(first + k) + i * Context::kWarp);
                    }
                }
            }
            QRNN_UNROLL
            for (int k = 0; k < kAtOnce; ++k) {
                if (first + k >= to) break;
                Segment<M> next;
                QRNN_UNROLL
                for (int i = 0; i < kCount; ++i) {
                    while (!is_there(words[k][i])) {
                        context.pause();
                        words[k][i] = context.peek(segment_at(first + k) + i * Context::kWarp);
                    }
                    set_channel(next.share, i, share_in(words[k][i]));
                    set_channel(next.state, i, state_in(words[k][i]));
                }
                run = join<M, P>(run, next);
            }
        }
        put_segment<Context, kCount>(joined + warp * kFloats, x, run);
        QRNN_UNROLL
        for (int i = 0; i < kCount; ++i) {
            const uint64_t* const place = state_at(anchor) + i * Context::kWarp;
            uint64_t word = context.peek_in_order(place);
            if (!is_there(word)) {
                // Only the last load in order: each costs what the caches hold.
                do {
                    context.pause();
                } while (!is_there(context.peek(place)));
                word = context.peek_in_order(place);
            }
            set_channel(c, i, state_in(word));
        }
        context.barrier();
        QRNN_UNROLL_BY(4)
        for (int w = 0; w < a.warps; ++w) {
            // An empty share would turn an infinite state into NaN.
            if (earlier * w / a.warps < earlier * (w + 1) / a.warps) {
                c = apply<M, P>(get_segment<Context, kCount, M>(joined + w * kFloats, x), c);
            }
        }
    }

    V mine = c;
    QRNN_UNROLL_BY(4)
    for (int w = 0; w < a.warps; ++w) {
        if (w == warp) mine = c;
        c = apply<M, P>(get_segment<Context, kCount, M>(own + w * kFloats, x), c);
    }
    if (chunk % kAnchorEvery == 0 && warp == 0) {
        QRNN_UNROLL
        for (int i = 0; i < kCount; ++i) {
            context.publish_in_order(state_at(chunk) + i * Context::kWarp,
                                     state_word(channel(c, i)));
        }
    }
    span.replay(a, lane, begin, mine);
    // After a barrier: c_T may be c0, which the other warps have read.
    if (chunk == 0 && warp == 0 && lane.exists && lane.length == 0) {
        lane.store_state(a.c_T, mine);
    }
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_KERNELS_H_
