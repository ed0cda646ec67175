// The walk through time, for one value type (M), pooling, activation and storage type.
//
// Time is outermost: the packed gates are read, and h is written, once and in the order of memory,
// while the state of the range stays in the L1 cache; it lives in the output c_T.
#ifndef QRNN_DEPLOY_CORE_TRAVERSAL_H_
#define QRNN_DEPLOY_CORE_TRAVERSAL_H_

#include <string.h>

#include "lanes_pair.h"
#include "pool.h"
#include "recurrence.h"
#include "storage.h"

namespace qrnn {

// M::width neighbouring channels (kWhole), or the first n of them.
template <class M, class T, bool kWhole>
QRNN_HD typename M::V load(const char* p, int n) {
    if constexpr (kWhole) {
        return M::template load<T>(p);
    } else {
        return M::template load_first<T>(p, n);
    }
}

template <class M, class T, bool kWhole>
QRNN_HD void store(char* p, typename M::V x, int n) {
    if constexpr (kWhole) {
        M::template store<T>(p, x);
    } else {
        M::template store_first<T>(p, x, n);
    }
}

// One time step of one batch row. Offsets and pointers are in bytes: nothing promises that the
// caller's arrays are aligned. The last four are an SRU's; `skip` goes along with h.
struct Row {
    const char* gates;
    const char* c_in;
    char* c_out;
    char* h;
    int64_t block;        // from one gate to the next
    int64_t gates_ahead;  // from here to what will be needed a little later
    int64_t h_ahead;
    const char* weight_c;
    const char* bias;
    int64_t state_row;  // from v_f to v_r, from b_f to b_r
    const char* skip;
};

// An address for prefetching; it may lie outside of the array.
QRNN_HD const void* offset_by(const char* p, int64_t bytes) {
    return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) +
                                         static_cast<uintptr_t>(bytes));
}

// The recurrence on the M::width channels from j on (kWhole), or on the first n of them.
template <class M, Pooling P, Activation A, class T, bool kWhole>
QRNN_HD void step(const Row& row, int64_t j, typename M::V zoneout_scale, int n = 0) {
    using V = typename M::V;
    constexpr int64_t kItem = sizeof(T);
    constexpr int64_t kCacheLine = 64;
    // Into the L1 cache (3), or the L2 cache (2): an SRU's states and parameters fill the L1 cache
    // (32 KiB at B = 8, H = 640, where this made SRUPool 1.5 times as fast on an AMD EPYC).
    constexpr int kCache = is_sru(P) ? 2 : 3;
    const char* gates = row.gates + j * kItem;
    char* h = row.h + j * kItem;
    for (int64_t at = 0; at < M::width * kItem; at += kCacheLine) {
        for (int gate = 0; gate < gate_count(P); ++gate) {
            __builtin_prefetch(offset_by(gates, gate * row.block + at + row.gates_ahead), 0,
                               kCache);
        }
        if constexpr (reads_skip(P)) {
            __builtin_prefetch(offset_by(row.skip, j * kItem + at + row.h_ahead), 0, kCache);
        }
        __builtin_prefetch(offset_by(h, at + row.h_ahead), 1, kCache);
    }
    V x[value_count(P)];
    for (int gate = 0; gate < gate_count(P); ++gate) {
        x[gate] = load<M, T, kWhole>(gates + gate * row.block, n);
    }
    if constexpr (reads_skip(P)) x[gate_count(P)] = load<M, T, kWhole>(row.skip + j * kItem, n);
    const int64_t state_at = j * static_cast<int64_t>(sizeof(float));
    const V c = load<M, float, kWhole>(row.c_in + state_at, n);
    Stepped<M> to;
    if constexpr (is_sru(P)) {
        const char* weight = row.weight_c + state_at;
        const char* bias = row.bias + state_at;
        const SruParameters<M> parameters = {
            load<M, float, kWhole>(weight, n), load<M, float, kWhole>(weight + row.state_row, n),
            load<M, float, kWhole>(bias, n), load<M, float, kWhole>(bias + row.state_row, n)};
        to = sru_step<M, P>(c, x, parameters, [](V v) { return activate<M, A>(v); });
    } else {
        const V xi = x[has_input_gate(P) ? input_gate_block(P) : 0];
        to.c = advance<M, P>(c, terms_of<M, P>(activate<M, A>(x[0]), x[1], xi, zoneout_scale));
        to.h = hidden<M, P>(to.c, x[output_gate_block(P)]);
    }
    store<M, float, kWhole>(row.c_out + state_at, to.c, n);
    store<M, T, kWhole>(h, to.h, n);
}

template <class M, Pooling P, Activation A, class T>
QRNN_HD void step_row(const Row& row, int64_t channels, float scale) {
    using Pair = PairLanes<M>;
    const typename Pair::V pair_scale = Pair::set(scale);
    const typename M::V zoneout_scale = M::set(scale);
    int64_t j = 0;
    for (; j + Pair::width <= channels; j += Pair::width) {
        step<Pair, P, A, T, true>(row, j, pair_scale);
    }
    for (; j + M::width <= channels; j += M::width) {
        step<M, P, A, T, true>(row, j, zoneout_scale);
    }
    if (j < channels) {
        step<M, P, A, T, false>(row, j, zoneout_scale, static_cast<int>(channels - j));
    }
}

template <class M, Pooling P, Activation A, class T>
void pool_range(const PoolArguments& a, const PoolRange& range) {
    constexpr int64_t kItem = sizeof(T);
    constexpr int64_t kState = sizeof(float);
    // Hardware prefetchers lose the thread at the jumps between gates, rows and parts, so the loop
    // asks for what it needs about this many channels later: whole rows, or a piece of a long one.
    constexpr int64_t kAhead = 1024;
    const int64_t channels = range.channel_end - range.channel_begin;
    const int64_t block = a.hidden * kItem;
    const int64_t state_row = a.hidden * kState;
    const char* gates = static_cast<const char*>(a.gates) + range.channel_begin * kItem;
    const char* c0 = static_cast<const char*>(a.c0) + range.channel_begin * kState;
    const char* lengths = static_cast<const char*>(a.lengths);
    char* h = static_cast<char*>(a.h) + range.channel_begin * kItem;
    char* c_T = static_cast<char*>(a.c_T) + range.channel_begin * kState;
    const char* weight_c = nullptr;
    const char* bias = nullptr;
    const char* skip = nullptr;
    if constexpr (is_sru(P)) {
        weight_c = static_cast<const char*>(a.weight_c) + range.channel_begin * kState;
        bias = static_cast<const char*>(a.bias) + range.channel_begin * kState;
    }
    if constexpr (reads_skip(P)) {
        skip = static_cast<const char*>(a.skip) + range.channel_begin * kItem;
    }

    const auto length_of = [lengths](int64_t row) {
        int64_t length;
        memcpy(&length, lengths + row * static_cast<int64_t>(sizeof length), sizeof length);
        return length;
    };

    for (int64_t row = range.row_begin; row < range.row_end; ++row) {
        if (length_of(row) == 0 && c_T != c0) {
            memcpy(c_T + row * state_row, c0 + row * state_row, channels * kState);
        }
    }
    const int64_t rows = range.row_end - range.row_begin;
    const int64_t to_next_step = a.reverse ? -a.batch : a.batch;
    const int64_t rows_ahead = channels > kAhead ? 1 : kAhead / channels;
    const int64_t steps_ahead = rows_ahead / rows;
    const int64_t rest_ahead = rows_ahead % rows;
    for (int64_t i = 0; i < a.steps; ++i) {
        const int64_t t = a.reverse ? a.steps - 1 - i : i;
        for (int64_t row = range.row_begin; row < range.row_end; ++row) {
            const int64_t length = length_of(row);
            const int64_t at = t * a.batch + row;
            if (t >= length) {
                memset(h + at * block, 0, channels * kItem);
                continue;
            }
            const bool first = t == (a.reverse ? length - 1 : 0);
            const int64_t ahead = row + rest_ahead < range.row_end
                                      ? steps_ahead * to_next_step + rest_ahead
                                      : (steps_ahead + 1) * to_next_step + rest_ahead - rows;
            char* c_out = c_T + row * state_row;
            const Row step_of_row = {
                gates + at * gate_count(P) * block,
                first ? c0 + row * state_row : c_out,
                c_out,
                h + at * block,
                block,
                channels > 2 * kAhead ? kAhead * kItem : ahead * gate_count(P) * block,
                channels > 2 * kAhead ? kAhead * kItem : ahead * block,
                weight_c,
                bias,
                state_row,
                reads_skip(P) ? skip + at * block : nullptr,
            };
            step_row<M, P, A, T>(step_of_row, channels, a.zoneout_scale);
        }
    }
}

template <class M, Pooling P, Activation A>
PoolFunction function_for(Storage storage) {
    switch (storage) {
        case Storage::kFloat32: return pool_range<M, P, A, float>;
        case Storage::kFloat16: return pool_range<M, P, A, Float16>;
        case Storage::kBFloat16: return pool_range<M, P, A, BFloat16>;
    }
    return nullptr;
}

template <class M, Pooling P>
PoolFunction function_for(Activation activation, Storage storage) {
    switch (activation) {
        case Activation::kTanh: return function_for<M, P, Activation::kTanh>(storage);
        case Activation::kRelu: return function_for<M, P, Activation::kRelu>(storage);
        case Activation::kIdentity: return function_for<M, P, Activation::kIdentity>(storage);
    }
    return nullptr;
}

template <class M>
PoolFunction function_for(const PoolArguments& a) {
    switch (a.pooling) {
        case Pooling::kF: return function_for<M, Pooling::kF>(a.activation, a.storage);
        case Pooling::kFO: return function_for<M, Pooling::kFO>(a.activation, a.storage);
        case Pooling::kIFO: return function_for<M, Pooling::kIFO>(a.activation, a.storage);
        case Pooling::kIF: return function_for<M, Pooling::kIF>(a.activation, a.storage);
        case Pooling::kSRU: return function_for<M, Pooling::kSRU>(a.activation, a.storage);
        case Pooling::kSRUInput:
            return function_for<M, Pooling::kSRUInput>(a.activation, a.storage);
        case Pooling::kSRUNoSkip:
            return function_for<M, Pooling::kSRUNoSkip>(a.activation, a.storage);
    }
    return nullptr;
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_TRAVERSAL_H_
