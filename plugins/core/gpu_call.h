// A launch of a GPU kernel, and the channels of one of its threads.
//
// Walk order: step i of a row is t = i, or t = length-1-i where `reverse`; beyond the length both
// are t = i, and h is zero there.
#ifndef QRNN_DEPLOY_CORE_GPU_CALL_H_
#define QRNN_DEPLOY_CORE_GPU_CALL_H_

#include <stdint.h>

#include "gpu_lanes.h"
#include "gpu_plan.h"
#include "recurrence.h"

#if defined(__CUDA_ARCH__)
#define QRNN_UNROLL _Pragma("unroll")
#define QRNN_UNROLL_BY(n) QRNN_PRAGMA(unroll n)
#define QRNN_PRAGMA(text) _Pragma(#text)
#else
#define QRNN_UNROLL
#define QRNN_UNROLL_BY(n)
#endif

namespace qrnn {

// Of kChain.
struct ChainMemory {
    uint32_t* tickets;   // [groups]
    uint64_t* segments;  // [chunks, groups, channels_per_thread, kWarp]
    uint64_t* states;    // [anchors, groups, channels_per_thread, kWarp]
};

template <class T>
struct SruInputs {
    const float* weight_c;
    const float* bias;
    const T* skip;
};

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
    union {
        ChainMemory chain;
        SruInputs<T> sru;  // an SRU has no kChain
    };
    int groups;  // kChain
};

// What the arguments give; the rest is the launch's.
template <class T>
GpuCall<T> make_call(const PoolArguments& a) {
    GpuCall<T> call{};
    call.gates = static_cast<const T*>(a.gates);
    call.c0 = static_cast<const float*>(a.c0);
    call.lengths = static_cast<const int64_t*>(a.lengths);
    if (is_sru(a.pooling)) {
        call.sru = {static_cast<const float*>(a.weight_c), static_cast<const float*>(a.bias),
                    static_cast<const T*>(a.skip)};
    }
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
    using M = typename C::M;
    static constexpr int kGates = gate_count(P);
    static constexpr int kValues = value_count(P);

    // Where a step is read: from the gates, and from skip where the pooling has it.
    struct Place {
        const T* gates;
        const T* skip;
    };

    bool exists = false;
    int length = 0;    // 0 where the lane does not exist
    int64_t index;     // in [B, H]
    int64_t column;    // in [H]
    Place start = {};  // of t = 0
    T* h;              // of t = 0
    int64_t block;     // elements from one gate to the next
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
        column = index - row * a.hidden;
        start.gates = a.gates + (row * kGates * a.hidden + column);
        if constexpr (reads_skip(P)) start.skip = a.sru.skip + index;
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
    QRNN_HD Place place_at(int i) const {
        const int64_t at = first * lanes() + i * h_step;
        Place place = {start.gates + at * kGates, nullptr};
        if constexpr (reads_skip(P)) place.skip = start.skip + at;
        return place;
    }
    QRNN_HD void advance_place(Place& place) const {
        place.gates += gates_step;
        if constexpr (reads_skip(P)) place.skip += h_step;
    }
    QRNN_HD T* h_at(int i) const { return h + (first * lanes() + i * h_step); }
    QRNN_HD void load(const Place& place, typename C::Raw (&raw)[kValues]) const {
        QRNN_UNROLL
        for (int gate = 0; gate < kGates; ++gate) raw[gate] = C::load(place.gates + gate * block);
        if constexpr (reads_skip(P)) raw[kGates] = C::load(place.skip);
    }
    // An SRU's; nothing where there is none.
    QRNN_HD SruParameters<M> parameters(const GpuCall<T>& a) const {
        SruParameters<M> of = {};
        if constexpr (is_sru(P)) {
            get(a.sru.weight_c + column, 1, &of.weight_f);
            get(a.sru.weight_c + block + column, 1, &of.weight_r);
            get(a.sru.bias + column, 1, &of.bias_f);
            get(a.sru.bias + block + column, 1, &of.bias_r);
        }
        return of;
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

template <class M, bool kTanh, class T>
QRNN_HD typename M::V activate_by(const GpuCall<T>& a, typename M::V x) {
    if constexpr (kTanh) {
        return activate<M, Activation::kTanh>(x);
    } else {
        return M::max_or_nan(x, M::set(a.least_candidate));
    }
}

template <class M, Pooling P, bool kTanh, class C, class T>
QRNN_HD Terms<M> terms_of_raw(const GpuCall<T>& a, const typename C::Raw (&raw)[value_count(P)]) {
    using V = typename M::V;
    const V xz = C::value(raw[0]);
    const V z = activate_by<M, kTanh>(a, xz);
    V xi = xz;
    if constexpr (has_input_gate(P)) xi = C::value(raw[input_gate_block(P)]);
    return terms_of<M, P>(z, C::value(raw[1]), xi, M::set(a.zoneout_scale));
}

// A step from the state before it.
template <class M, Pooling P, bool kTanh, class C, class T>
QRNN_HD Stepped<M> step_of_raw(const GpuCall<T>& a, const SruParameters<M>& of, typename M::V c,
                               const typename C::Raw (&raw)[value_count(P)]) {
    using V = typename M::V;
    if constexpr (is_sru(P)) {
        V x[value_count(P)];
        QRNN_UNROLL
        for (int i = 0; i < value_count(P); ++i) x[i] = C::value(raw[i]);
        return sru_step<M, P>(c, x, of, [&a](V v) { return activate_by<M, kTanh>(a, v); });
    } else {
        const V next = advance<M, P>(c, terms_of_raw<M, P, kTanh, C>(a, raw));
        return {next, hidden<M, P>(next, C::value(raw[output_gate_block(P)]))};
    }
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_CALL_H_
