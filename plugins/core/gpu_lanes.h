// The value types of the GPU kernels: one channel or two in a thread, and how they are moved.
// Compiled by g++ too, where the kernels are emulated; there the approximate instructions are
// stood in for by functions that err as much as their specification allows, up or down by the
// argument's bits.
#ifndef QRNN_DEPLOY_CORE_GPU_LANES_H_
#define QRNN_DEPLOY_CORE_GPU_LANES_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "activations.h"
#include "lanes_pair.h"
#include "storage.h"

namespace qrnn {

template <class ActivationPolicy>
struct GpuLanes {
    using Activations = ActivationPolicy;
    using V = float;
    static constexpr int width = 1;

    static QRNN_HD V set(float x) { return x; }
    static QRNN_HD V add(V a, V b) { return a + b; }
    static QRNN_HD V sub(V a, V b) { return a - b; }
    static QRNN_HD V mul(V a, V b) { return a * b; }
    static QRNN_HD V fma(V a, V b, V c) { return fmaf(a, b, c); }
    static QRNN_HD V negate(V x) { return -x; }
    static QRNN_HD V absolute(V x) { return fabsf(x); }
    static QRNN_HD V copy_sign(V x, V sign) { return copysignf(x, sign); }
    static QRNN_HD V max_or_nan(V x, V limit) { return x < limit ? limit : x; }
    static QRNN_HD V min_or_nan(V x, V limit) { return limit < x ? limit : x; }
    static QRNN_HD V where_less(V x, V limit, V yes, V no) { return x < limit ? yes : no; }

    // By the sign bit: of -0 and of NaN too.
    static QRNN_HD V where_negative(V x, V yes, V no) {
        return storage_detail::bits(x) >> 31 != 0 ? yes : no;
    }

    // One instruction of the special-function unit each; results below 2^-126 are 0. Relative error
    // 2^-22, and one unit in the last place.
    static QRNN_HD V exp2(V x) {
#if defined(__CUDA_ARCH__)
        asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
        return x;
#else
        return normal_or_zero(exp2f(x) * (1.0f + error_at(x, 0x1p-22f)));
#endif
    }
    static QRNN_HD V fast_reciprocal(V x) {
#if defined(__CUDA_ARCH__)
        asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
        return x;
#else
        return normal_or_zero((1.0f / x) * (1.0f + error_at(x, 0x1p-23f)));
#endif
    }
    // Relative error 2^-11.
    static QRNN_HD V hardware_tanh(V x) {
#if defined(__CUDA_ARCH__)
        asm("tanh.approx.f32 %0, %0;" : "+f"(x));
        return x;
#else
        const float y = tanhf(x) * (1.0f + error_at(x, 0x1p-11f));
        return fabsf(y) > 1.0f ? copysignf(1.0f, x) : y;
#endif
    }

  private:
    static QRNN_HD float error_at(V x, float size) {
        return (storage_detail::bits(x) * 2654435761u >> 31) != 0 ? size : -size;
    }
    static QRNN_HD V normal_or_zero(V x) { return fabsf(x) < 0x1p-126f ? 0.0f : x; }
};

// Data that is read once: not kept in the caches that others need.
template <class Word>
QRNN_HD Word load_once(const Word* p) {
#if defined(__CUDA_ARCH__)
    return __ldcs(p);
#else
    return *p;
#endif
}

// The value is needed here: the compiler may not move what makes it behind a branch.
QRNN_HD void need(float& x) {
#if defined(__CUDA_ARCH__)
    asm volatile("" : "+f"(x));
#else
    (void)x;
#endif
}
template <class Pair>
QRNN_HD void need(Pair& x) {
    need(x.a);
    need(x.b);
}

QRNN_HD float widen(uint16_t bits, BFloat16) { return to_float(BFloat16{bits}); }
QRNN_HD float widen(uint16_t bits, Float16) {
#if defined(__CUDA_ARCH__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
#else
    return to_float(Float16{bits});
#endif
}
QRNN_HD uint16_t narrow(float x, BFloat16) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    return from_float<BFloat16>(x).bits;
#endif
}
QRNN_HD uint16_t narrow(float x, Float16) {
#if defined(__CUDA_ARCH__)
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    return from_float<Float16>(x).bits;
#endif
}

// What a thread holds of one array at one step: kCount neighbouring channels, in the storage type
// (Raw, as it is loaded) and as values (V).
template <class T, int kCount>
struct Channels;

template <>
struct Channels<float, 1> {
    using M = GpuLanes<FastActivations>;
    using V = float;
    using Raw = float;
    static QRNN_HD Raw load(const float* p) { return load_once(p); }
    static QRNN_HD V value(Raw raw) { return raw; }
    static QRNN_HD void store(float* p, V x) { *p = x; }
};

template <class T>
struct Channels<T, 1> {
    using M = GpuLanes<HalfActivations>;
    using V = float;
    using Raw = uint16_t;
    static QRNN_HD Raw load(const T* p) { return load_once(reinterpret_cast<const uint16_t*>(p)); }
    static QRNN_HD V value(Raw raw) { return widen(raw, T{}); }
    static QRNN_HD void store(T* p, V x) { p->bits = narrow(x, T{}); }
};

template <class T>
struct Channels<T, 2> {
    using M = PairLanes<GpuLanes<HalfActivations>>;
    using V = typename M::V;
    using Raw = uint32_t;
    static QRNN_HD Raw load(const T* p) { return load_once(reinterpret_cast<const uint32_t*>(p)); }
    static QRNN_HD V value(Raw raw) {
        return {widen(static_cast<uint16_t>(raw), T{}),
                widen(static_cast<uint16_t>(raw >> 16), T{})};
    }
    static QRNN_HD void store(T* p, V x) {
        const uint32_t low = narrow(x.a, T{});
        const uint32_t high = narrow(x.b, T{});
        *reinterpret_cast<uint32_t*>(p) = low | high << 16;
    }
};

// Values as float32 in memory, the channels of a thread `stride` apart.
QRNN_HD void put(float* p, int64_t, float x) { *p = x; }
QRNN_HD void get(const float* p, int64_t, float* x) { *x = *p; }
template <class Pair>
QRNN_HD void put(float* p, int64_t stride, Pair x) {
    p[0] = x.a;
    p[stride] = x.b;
}
template <class Pair>
QRNN_HD void get(const float* p, int64_t stride, Pair* x) {
    x->a = p[0];
    x->b = p[stride];
}

// One channel of a thread's.
QRNN_HD float channel(float x, int) { return x; }
QRNN_HD void set_channel(float& x, int, float value) { x = value; }
template <class Pair>
QRNN_HD float channel(const Pair& x, int i) {
    return i == 0 ? x.a : x.b;
}
template <class Pair>
QRNN_HD void set_channel(Pair& x, int i, float value) {
    (i == 0 ? x.a : x.b) = value;
}

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_LANES_H_
