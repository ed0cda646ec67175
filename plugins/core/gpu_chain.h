// The kernel in which the blocks of the grid share the time: kChain (gpu_kernels.h).
#ifndef QRNN_DEPLOY_CORE_GPU_CHAIN_H_
#define QRNN_DEPLOY_CORE_GPU_CHAIN_H_

#include "gpu_scan.h"

namespace qrnn {

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
        const uint32_t ticket = context.take_ticket(a.chain.tickets + group);
        memcpy(extra, &ticket, sizeof ticket);
    }
    const L lane(a, static_cast<int64_t>(group) * Context::kWarp + x);
    context.barrier();
    uint32_t ticket;
    memcpy(&ticket, extra, sizeof ticket);
    const int chunk = static_cast<int>(ticket);
    const int begin = (chunk * a.warps + warp) * kSteps;
    const auto segment_at = [&](int k) {
        return a.chain.segments + (static_cast<int64_t>(k) * a.groups + group) * kWords + x;
    };
    const auto state_at = [&](int anchor) {
        return a.chain.states +
               (static_cast<int64_t>(anchor / kAnchorEvery) * a.groups + group) * kWords + x;
    };

    V c = chunk == 0 ? lane.state(a.c0) : M::set(0.0f);
    S span;
    {
        typename S::Raw raw[kSteps][L::kValues] = {};
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

#endif  // QRNN_DEPLOY_CORE_GPU_CHAIN_H_
