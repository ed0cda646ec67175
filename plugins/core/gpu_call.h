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

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_CALL_H_
