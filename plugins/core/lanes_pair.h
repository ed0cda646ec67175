// Two values of another lanes type, operation by operation: their dependency chains interleave,
// which hides the latency of the long ones (exp, division).
#ifndef QRNN_DEPLOY_CORE_LANES_PAIR_H_
#define QRNN_DEPLOY_CORE_LANES_PAIR_H_

#include <stddef.h>

#include "host_device.h"

namespace qrnn {

template <class M>
struct PairLanes {
    using Activations = typename M::Activations;
    struct V {
        typename M::V a, b;
    };
    static constexpr int width = 2 * M::width;

    static QRNN_HD V set(float x) { return {M::set(x), M::set(x)}; }
    static QRNN_HD V add(V x, V y) { return {M::add(x.a, y.a), M::add(x.b, y.b)}; }
    static QRNN_HD V sub(V x, V y) { return {M::sub(x.a, y.a), M::sub(x.b, y.b)}; }
    static QRNN_HD V mul(V x, V y) { return {M::mul(x.a, y.a), M::mul(x.b, y.b)}; }
    static QRNN_HD V fma(V x, V y, V z) { return {M::fma(x.a, y.a, z.a), M::fma(x.b, y.b, z.b)}; }
    static QRNN_HD V max_or_nan(V x, V limit) {
        return {M::max_or_nan(x.a, limit.a), M::max_or_nan(x.b, limit.b)};
    }
    static QRNN_HD V min_or_nan(V x, V limit) {
        return {M::min_or_nan(x.a, limit.a), M::min_or_nan(x.b, limit.b)};
    }
    static QRNN_HD V negate(V x) { return {M::negate(x.a), M::negate(x.b)}; }
    static QRNN_HD V exponent_from_low_bits(V x) {
        return {M::exponent_from_low_bits(x.a), M::exponent_from_low_bits(x.b)};
    }
    static QRNN_HD V minus_ln2_times(V y, V n) {
        return {M::minus_ln2_times(y.a, n.a), M::minus_ln2_times(y.b, n.b)};
    }
    static QRNN_HD V reciprocal(V d) { return {M::reciprocal(d.a), M::reciprocal(d.b)}; }
    static QRNN_HD V divide(V a, V d) { return {M::divide(a.a, d.a), M::divide(a.b, d.b)}; }
    static QRNN_HD V exp2(V x) { return {M::exp2(x.a), M::exp2(x.b)}; }
    static QRNN_HD V fast_reciprocal(V d) {
        return {M::fast_reciprocal(d.a), M::fast_reciprocal(d.b)};
    }
    static QRNN_HD V hardware_tanh(V x) { return {M::hardware_tanh(x.a), M::hardware_tanh(x.b)}; }
    static QRNN_HD V absolute(V x) { return {M::absolute(x.a), M::absolute(x.b)}; }
    static QRNN_HD V copy_sign(V x, V sign) {
        return {M::copy_sign(x.a, sign.a), M::copy_sign(x.b, sign.b)};
    }
    static QRNN_HD V where_less(V x, V limit, V yes, V no) {
        return {M::where_less(x.a, limit.a, yes.a, no.a), M::where_less(x.b, limit.b, yes.b, no.b)};
    }
    static QRNN_HD V where_negative(V x, V yes, V no) {
        return {M::where_negative(x.a, yes.a, no.a), M::where_negative(x.b, yes.b, no.b)};
    }
    template <class T>
    static QRNN_HD V load(const char* p) {
        return {M::template load<T>(p), M::template load<T>(p + M::width * sizeof(T))};
    }
    template <class T>
    static QRNN_HD void store(char* p, V x) {
        M::template store<T>(p, x.a);
        M::template store<T>(p + M::width * sizeof(T), x.b);
    }
};

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_LANES_PAIR_H_
