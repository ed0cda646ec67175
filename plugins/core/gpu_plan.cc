#include "gpu_plan.h"

#include <algorithm>

namespace qrnn {
namespace {

// Warps of kScan that fit a multiprocessor at once, at 128 registers.
constexpr int64_t kResidentToScan = 16;
constexpr int64_t kFewestChainSteps = 256;
constexpr size_t kAlignment = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t groups_of(const PoolArguments& a, int channels_per_thread) {
    return divide_up(a.batch * a.hidden, kGpuWarp * channels_per_thread);
}

// kChain where the groups alone would leave multiprocessors idle.
bool chain_pays(const PoolArguments& a, const GpuDevice& device, int channels_per_thread) {
    return !is_sru(a.pooling) && a.steps >= kFewestChainSteps &&
           groups_of(a, channels_per_thread) < device.multiprocessors;
}

size_t chain_bytes(int64_t steps, int64_t batch, int64_t hidden) {
    size_t most = 0;
    for (int channels : {1, 2}) {
        most = std::max(
            most,
            chain_layout(steps, batch, hidden, channels, most_warps(GpuRegime::kChain)).bytes);
    }
    return most;
}

}  // namespace

bool pairs_allowed(const PoolArguments& a) {
    return a.storage != Storage::kFloat32 && a.hidden % 2 == 0 &&
           reinterpret_cast<uintptr_t>(a.gates) % 4 == 0 &&
           (!reads_skip(a.pooling) || reinterpret_cast<uintptr_t>(a.skip) % 4 == 0) &&
           reinterpret_cast<uintptr_t>(a.h) % 4 == 0;
}

bool plan_fits(const GpuPlan& plan, const PoolArguments& a) {
    const bool pairs = plan.channels_per_thread == 2;
    if (pairs ? !pairs_allowed(a) : plan.channels_per_thread != 1) return false;
    if (plan.warps < 1 || plan.warps > most_warps(plan.regime)) return false;
    if (plan.regime == GpuRegime::kStep) return a.steps == 1;
    if (plan.regime == GpuRegime::kWalk) return true;
    if (is_sru(a.pooling)) return false;
    // 16-bit channels are moved in pairs here or not at all.
    return a.steps > 0 && (pairs || a.storage == Storage::kFloat32);
}

ChainLayout chain_layout(int64_t steps, int64_t batch, int64_t hidden, int channels_per_thread,
                         int warps, int span, int warp_lanes) {
    const int64_t group_lanes = static_cast<int64_t>(warp_lanes) * channels_per_thread;
    ChainLayout layout;
    layout.chunks = divide_up(steps, static_cast<int64_t>(warps) * span);
    layout.groups = divide_up(batch * hidden, group_lanes);
    const size_t lanes = static_cast<size_t>(layout.groups * group_lanes);
    const size_t anchors = static_cast<size_t>(divide_up(layout.chunks, kAnchorEvery));
    layout.segments = align(static_cast<size_t>(layout.groups) * sizeof(uint32_t));
    layout.states = layout.segments + static_cast<size_t>(layout.chunks) * lanes * sizeof(uint64_t);
    layout.bytes = layout.states + anchors * lanes * sizeof(uint64_t);
    return layout;
}

GpuPlan plan_gpu(const PoolArguments& a, const GpuDevice& device, size_t workspace_bytes) {
    GpuPlan plan;
    plan.channels_per_thread = pairs_allowed(a) ? 2 : 1;
    const int64_t groups = groups_of(a, plan.channels_per_thread);
    if (a.steps <= 1) {
        plan.regime = a.steps == 1 ? GpuRegime::kStep : GpuRegime::kWalk;
        plan.warps = 4;
        return plan;
    }
    if (is_sru(a.pooling)) {
        // Few lanes are spread over as many multiprocessors as there are.
        return {GpuRegime::kWalk, plan.channels_per_thread,
                groups < 2 * device.multiprocessors ? 1 : 2};
    }
    const bool spans = a.storage == Storage::kFloat32 || plan.channels_per_thread == 2;
    const GpuPlan walk = {GpuRegime::kWalk, plan.channels_per_thread, 2};
    if (a.steps < 2 * kSpan || !spans) return walk;
    plan.regime = GpuRegime::kChain;
    plan.warps = most_warps(GpuRegime::kChain);
    const ChainLayout layout =
        chain_layout(a.steps, a.batch, a.hidden, plan.channels_per_thread, plan.warps);
    if (chain_pays(a, device, plan.channels_per_thread) && workspace_bytes >= layout.bytes) {
        return plan;
    }
    // As many warps as let all blocks be resident at once, but no more than there are spans.
    plan.regime = GpuRegime::kScan;
    plan.warps = most_warps(GpuRegime::kScan);
    const int64_t blocks = divide_up(groups, device.multiprocessors);
    while (plan.warps > 1 &&
           (blocks * plan.warps > kResidentToScan || (plan.warps / 2) * kSpan >= a.steps)) {
        plan.warps /= 2;
    }
    // One warp has nothing to join: a thread that walks does the same with less.
    return plan.warps > 1 ? plan : walk;
}

size_t gpu_workspace_bytes(const PoolArguments& a, const GpuDevice& device) {
    // Whether channels go in pairs depends on pointers that may not be known yet.
    for (int channels : {1, 2}) {
        if (channels == 2 && a.storage == Storage::kFloat32) continue;
        if (a.batch * a.hidden > 0 && chain_pays(a, device, channels)) {
            return chain_bytes(a.steps, a.batch, a.hidden);
        }
    }
    return 0;
}

size_t gpu_workspace_bound(const PoolArguments& largest, const GpuDevice& device) {
    // More lanes than these are never given to kChain, so that fewer rows may need more than many.
    const int64_t most_lanes = int64_t{2} * kGpuWarp * device.multiprocessors;
    const int64_t lanes = std::min(largest.batch * largest.hidden, most_lanes);
    if (is_sru(largest.pooling) || largest.steps < kFewestChainSteps || lanes == 0) return 0;
    return chain_bytes(largest.steps, 1, lanes);
}

}  // namespace qrnn
