// PoolArguments from plain numbers and addresses, for the C functions that tests call by ctypes.
// Enumerations are given as their numbers.
#ifndef QRNN_DEPLOY_TESTS_POOL_ARGUMENTS_H_
#define QRNN_DEPLOY_TESTS_POOL_ARGUMENTS_H_

#include "pool.h"

inline qrnn::PoolArguments pool_arguments(int pooling, int activation, int storage, int reverse,
                                          float zoneout_scale, int64_t steps, int64_t batch,
                                          int64_t hidden, const void* gates, const void* c0,
                                          const void* lengths, void* h, void* c_T,
                                          const void* weight_c = nullptr,
                                          const void* bias = nullptr, const void* skip = nullptr) {
    qrnn::PoolArguments a;
    a.pooling = static_cast<qrnn::Pooling>(pooling);
    a.activation = static_cast<qrnn::Activation>(activation);
    a.storage = static_cast<qrnn::Storage>(storage);
    a.reverse = reverse != 0;
    a.zoneout_scale = zoneout_scale;
    a.steps = steps;
    a.batch = batch;
    a.hidden = hidden;
    a.gates = gates;
    a.c0 = c0;
    a.lengths = lengths;
    a.weight_c = weight_c;
    a.bias = bias;
    a.skip = skip;
    a.h = h;
    a.c_T = c_T;
    return a;
}

#endif  // QRNN_DEPLOY_TESTS_POOL_ARGUMENTS_H_
