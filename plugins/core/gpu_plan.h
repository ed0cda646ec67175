// Which kernel pools a given shape on a given GPU, and the memory it needs beside its arguments.
// Plain C++: no CUDA header, so that it is tested on a machine without one (docs/gpu.md).
#ifndef QRNN_DEPLOY_CORE_GPU_PLAN_H_
#define QRNN_DEPLOY_CORE_GPU_PLAN_H_

#include <stddef.h>
#include <stdint.h>

#include "pool.h"

namespace qrnn {

struct GpuDevice {
    int multiprocessors = 0;
    int compute_capability = 0;  // 90 for 9.0
};

// A lane is one channel of one row; a group is what the threads of one warp hold side by side.
enum class GpuRegime {
    kStep,   // T = 1: every lane at once
    kWalk,   // many lanes: a thread walks through time, its loads issued well ahead
    kScan,   // fewer lanes: the warps of a block take successive spans of time and are joined
    kChain,  // few lanes, long T: so do the blocks of the whole grid; needs a workspace
};

constexpr int kGpuWarp = 32;
constexpr int kSpan = 8;          // steps of a thread in kScan and kChain
constexpr int kAnchorEvery = 32;  // chunks between those whose final state is published (kChain)

// Steps of kWalk whose loads are in flight. An SRU has no other kernel where lanes are few, so that
// each must ask for more.
constexpr int walk_ahead(Pooling pooling) { return is_sru(pooling) ? 16 : 8; }

// The most warps in a block.
constexpr int most_warps(GpuRegime regime) { return regime == GpuRegime::kScan ? 16 : 8; }

struct GpuPlan {
    GpuRegime regime = GpuRegime::kWalk;
    int channels_per_thread = 1;  // 2 only where pairs_allowed
    int warps = 1;                // in a block
};

GpuPlan plan_gpu(const PoolArguments& arguments, const GpuDevice& device, size_t workspace_bytes);

// Whether two 16-bit channels may be moved as one word: H is even, gates, skip and h are aligned to
// 4 bytes.
bool pairs_allowed(const PoolArguments& arguments);
// Whether there is a kernel for that plan; the workspace is the caller's matter. An SRU has kStep
// and kWalk alone: its gates depend on the state, so time cannot be shared.
bool plan_fits(const GpuPlan& plan, const PoolArguments& arguments);

// The workspace of kChain: a ticket per group, then two arrays at these offsets from its start.
// All of it must be zero when the kernel starts.
struct ChainLayout {
    int64_t chunks, groups;
    size_t segments, states;
    size_t bytes;
};
ChainLayout chain_layout(int64_t steps, int64_t batch, int64_t hidden, int channels_per_thread,
                         int warps, int span = kSpan, int warp_lanes = kGpuWarp);

// Workspace that makes every regime possible for this very shape; 0 where kChain is not the choice.
size_t gpu_workspace_bytes(const PoolArguments& arguments, const GpuDevice& device);
// Enough for every T <= steps and B <= batch.
size_t gpu_workspace_bound(const PoolArguments& largest, const GpuDevice& device);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_GPU_PLAN_H_
