// Runs the GPU kernel bodies (plugins/core/gpu_kernels.h) on the host: one thread per CUDA thread,
// a barrier per block, several blocks at once, as on a GPU. A warp is 4 lanes wide here: nothing in
// the kernels depends on its size but the order of memory.
#ifndef QRNN_DEPLOY_TESTS_GPU_EMULATION_H_
#define QRNN_DEPLOY_TESTS_GPU_EMULATION_H_

#include <cstddef>

#include "gpu_plan.h"

namespace gpu_emulation {

constexpr int kWarp = 4;

// What is broken on purpose, to show that the tests would notice.
struct Mutation {
    int skipped_barrier = 0;  // the n-th of every block, from 1; 0 for none
    bool weak_order = false;  // publish_in_order and peek_in_order order nothing else
};

// Pools on the host by that plan, `blocks_at_once` blocks side by side. False where no kernel is
// compiled for it. The workspace is made here.
bool pool(const qrnn::PoolArguments& arguments, const qrnn::GpuPlan& plan, int blocks_at_once,
          const Mutation& mutation = {});

}  // namespace gpu_emulation

#endif  // QRNN_DEPLOY_TESTS_GPU_EMULATION_H_
