#include "gpu_emulation.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../gpu/pool_arguments.h"
#include "gpu_kernels.h"

namespace gpu_emulation {
namespace {

using qrnn::Activation;
using qrnn::GpuCall;
using qrnn::GpuPlan;
using qrnn::GpuRegime;
using qrnn::PoolArguments;
using qrnn::Pooling;

// Threads that are kept for the next call.
class Threads {
  public:
    ~Threads() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    void run(int count, const std::function<void(int)>& work) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (static_cast<int>(threads_.size()) < count) {
            const int index = static_cast<int>(threads_.size());
            threads_.emplace_back([this, index, seen = round_]() mutable { loop(index, seen); });
        }
        work_ = &work;
        count_ = count;
        running_ = count;
        ++round_;
        wake_.notify_all();
        done_.wait(lock, [this] { return running_ == 0; });
    }

  private:
    void loop(int index, int64_t seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || round_ != seen; });
            if (stop_) return;
            seen = round_;
            if (index >= count_) continue;
            lock.unlock();
            (*work_)(index);
            lock.lock();
            if (--running_ == 0) done_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> threads_;
    const std::function<void(int)>* work_ = nullptr;
    int count_ = 0, running_ = 0;
    int64_t round_ = 0;
    bool stop_ = false;
};

// Not std::barrier: the waiting lists of libstdc++'s are shared between all barriers of a process,
// and order the threads of different blocks, which hides their races from ThreadSanitizer.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void arrive_and_wait() {
        std::unique_lock<std::mutex> lock(mutex_);
        const int64_t round = round_;
        if (++waiting_ == threads_) {
            waiting_ = 0;
            ++round_;
            all_here_.notify_all();
        } else {
            all_here_.wait(lock, [&] { return round_ != round; });
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable all_here_;
    const int threads_;
    int waiting_ = 0;
    int64_t round_ = 0;
};

// A multiprocessor's place for one block at a time.
struct Slot {
    Slot(int threads, size_t floats) : barrier(threads), shared(floats) {}
    Barrier barrier;
    std::vector<float> shared;
};

class HostThread {
  public:
    static constexpr int kWarp = gpu_emulation::kWarp;

    HostThread(Slot& slot, int thread, int64_t block, const Mutation& mutation)
        : slot_(slot), thread_(thread), block_(block), mutation_(mutation) {}

    int thread() const { return thread_; }
    int64_t block() const { return block_; }
    float* shared() { return slot_.shared.data(); }
    void barrier() {
        if (++barriers_ != mutation_.skipped_barrier) slot_.barrier.arrive_and_wait();
    }
    uint32_t take_ticket(uint32_t* counter) {
        return std::atomic_ref<uint32_t>(*counter).fetch_add(1, std::memory_order_relaxed);
    }
    void publish(uint64_t* word, uint64_t value) {
        std::atomic_ref<uint64_t>(*word).store(value, std::memory_order_relaxed);
    }
    uint64_t peek(const uint64_t* word) {
        return std::atomic_ref<uint64_t>(*const_cast<uint64_t*>(word))
            .load(std::memory_order_relaxed);
    }
    // The orders are constants: GCC takes one that is not for sequentially consistent.
    void publish_in_order(uint64_t* word, uint64_t value) {
        if (mutation_.weak_order) return publish(word, value);
        std::atomic_ref<uint64_t>(*word).store(value, std::memory_order_release);
    }
    uint64_t peek_in_order(const uint64_t* word) {
        if (mutation_.weak_order) return peek(word);
        return std::atomic_ref<uint64_t>(*const_cast<uint64_t*>(word))
            .load(std::memory_order_acquire);
    }
    void pause() { std::this_thread::yield(); }

  private:
    Slot& slot_;
    int thread_;
    int64_t block_;
    const Mutation& mutation_;
    int barriers_ = 0;
};

template <class Kernel>
void launch(int64_t blocks, int threads, size_t shared_floats, int blocks_at_once,
            const Mutation& mutation, const Kernel& kernel) {
    static Threads pool;
    const int slots = static_cast<int>(std::min<int64_t>(blocks, blocks_at_once));
    std::vector<std::unique_ptr<Slot>> places;
    for (int s = 0; s < slots; ++s) {
        places.push_back(std::make_unique<Slot>(threads, shared_floats));
    }
    pool.run(slots * threads, [&](int index) {
        Slot& slot = *places[index / threads];
        for (int64_t block = index / threads; block < blocks; block += slots) {
            HostThread context(slot, index % threads, block, mutation);
            kernel(context);
            slot.barrier.arrive_and_wait();  // the memory is the next block's now
        }
    });
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// kScan and kChain.
template <class T, Pooling P, bool kTanh, int kCount>
void run_spans(GpuCall<T> call, const PoolArguments& a, const GpuPlan& plan, int blocks_at_once,
               const Mutation& mutation) {
    constexpr size_t kFloats = qrnn::kSegmentFloats<HostThread, kCount>;
    const int threads = plan.warps * kWarp;
    const qrnn::ChainLayout layout =
        qrnn::chain_layout(a.steps, a.batch, a.hidden, kCount, plan.warps, qrnn::kSpan, kWarp);
    if (plan.regime == GpuRegime::kScan) {
        launch(layout.groups, threads, 2 * plan.warps * kFloats, blocks_at_once, mutation,
               [&](HostThread& context) {
                   qrnn::scan_kernel<T, P, kTanh, kCount, qrnn::kSpan>(context, call);
               });
        return;
    }
    std::vector<uint64_t> workspace(layout.bytes / sizeof(uint64_t));
    char* const bytes = reinterpret_cast<char*>(workspace.data());
    call.chain.tickets = reinterpret_cast<uint32_t*>(bytes);
    call.chain.segments = reinterpret_cast<uint64_t*>(bytes + layout.segments);
    call.chain.states = reinterpret_cast<uint64_t*>(bytes + layout.states);
    call.groups = static_cast<int>(layout.groups);
    launch(layout.chunks * layout.groups, threads, (2 * plan.warps + 1) * kFloats, blocks_at_once,
           mutation, [&](HostThread& context) {
               qrnn::chain_kernel<T, P, kTanh, kCount, qrnn::kSpan>(context, call);
           });
}

template <class T, Pooling P, bool kTanh, int kCount>
bool run(GpuCall<T> call, const PoolArguments& a, const GpuPlan& plan, int blocks_at_once,
         const Mutation& mutation) {
    const int threads = plan.warps * kWarp;
    const int64_t blocks = divide_up(a.batch * a.hidden, int64_t{threads} * kCount);
    call.warps = plan.warps;
    if (plan.regime == GpuRegime::kStep) {
        launch(blocks, threads, 0, blocks_at_once, mutation,
               [&](HostThread& context) { qrnn::step_kernel<T, P, kTanh, kCount>(context, call); });
    } else if (plan.regime == GpuRegime::kWalk) {
        launch(blocks, threads, 0, blocks_at_once, mutation, [&](HostThread& context) {
            qrnn::walk_kernel<T, P, kTanh, kCount, qrnn::walk_ahead(P)>(context, call);
        });
    } else if constexpr (!qrnn::is_sru(P)) {
        run_spans<T, P, kTanh, kCount>(call, a, plan, blocks_at_once, mutation);
    } else {
        return false;
    }
    return true;
}

template <class T, Pooling P>
bool run(const PoolArguments& a, const GpuPlan& plan, int blocks_at_once,
         const Mutation& mutation) {
    const GpuCall<T> call = qrnn::make_call<T>(a);
    const bool tanh = a.activation == Activation::kTanh;
    if constexpr (sizeof(T) == 2) {
        if (plan.channels_per_thread == 2) {
            return tanh ? run<T, P, true, 2>(call, a, plan, blocks_at_once, mutation)
                        : run<T, P, false, 2>(call, a, plan, blocks_at_once, mutation);
        }
    }
    return tanh ? run<T, P, true, 1>(call, a, plan, blocks_at_once, mutation)
                : run<T, P, false, 1>(call, a, plan, blocks_at_once, mutation);
}

template <class T>
bool run(const PoolArguments& a, const GpuPlan& plan, int blocks_at_once,
         const Mutation& mutation) {
    switch (a.pooling) {
        case Pooling::kF: return run<T, Pooling::kF>(a, plan, blocks_at_once, mutation);
        case Pooling::kFO: return run<T, Pooling::kFO>(a, plan, blocks_at_once, mutation);
        case Pooling::kIFO: return run<T, Pooling::kIFO>(a, plan, blocks_at_once, mutation);
        case Pooling::kIF: return run<T, Pooling::kIF>(a, plan, blocks_at_once, mutation);
        case Pooling::kSRU: return run<T, Pooling::kSRU>(a, plan, blocks_at_once, mutation);
        case Pooling::kSRUInput:
            return run<T, Pooling::kSRUInput>(a, plan, blocks_at_once, mutation);
        case Pooling::kSRUNoSkip:
            return run<T, Pooling::kSRUNoSkip>(a, plan, blocks_at_once, mutation);
    }
    return false;
}

}  // namespace

bool pool(const PoolArguments& a, const GpuPlan& plan, int blocks_at_once,
          const Mutation& mutation) {
    if (!qrnn::plan_fits(plan, a)) return false;
    if (a.batch == 0 || a.hidden == 0) return true;
    switch (a.storage) {
        case qrnn::Storage::kFloat32: return run<float>(a, plan, blocks_at_once, mutation);
        case qrnn::Storage::kFloat16: return run<qrnn::Float16>(a, plan, blocks_at_once, mutation);
        case qrnn::Storage::kBFloat16:
            return run<qrnn::BFloat16>(a, plan, blocks_at_once, mutation);
    }
    return false;
}

}  // namespace gpu_emulation

// For tests/test_gpu_core.py. Enumerations as their numbers. Returns 0, or 1 where no kernel fits.
extern "C" __attribute__((visibility("default"))) int qrnn_emulate(
    int pooling, int activation, int storage, int reverse, float zoneout_scale, int64_t steps,
    int64_t batch, int64_t hidden, const void* gates, const void* c0, const void* lengths, void* h,
    void* c_T, int regime, int channels_per_thread, int warps, int blocks_at_once) {
    const qrnn::PoolArguments a =
        pool_arguments(pooling, activation, storage, reverse, zoneout_scale, steps, batch, hidden,
                       gates, c0, lengths, h, c_T);
    const qrnn::GpuPlan plan = {static_cast<qrnn::GpuRegime>(regime), channels_per_thread, warps};
    return gpu_emulation::pool(a, plan, blocks_at_once) ? 0 : 1;
}

// The plan for a shape as {regime, channels per thread, warps}, and {workspace for it, bound}.
extern "C" __attribute__((visibility("default"))) void qrnn_plan(
    int storage, int64_t steps, int64_t batch, int64_t hidden, int64_t gates_address,
    int multiprocessors, int compute_capability, uint64_t workspace_bytes, int* plan_out,
    uint64_t* bytes_out) {
    qrnn::PoolArguments a;
    a.storage = static_cast<qrnn::Storage>(storage);
    a.steps = steps;
    a.batch = batch;
    a.hidden = hidden;
    a.gates = reinterpret_cast<const void*>(gates_address);
    a.h = reinterpret_cast<void*>(gates_address);
    const qrnn::GpuDevice device = {multiprocessors, compute_capability};
    const qrnn::GpuPlan plan = qrnn::plan_gpu(a, device, workspace_bytes);
    plan_out[0] = static_cast<int>(plan.regime);
    plan_out[1] = plan.channels_per_thread;
    plan_out[2] = plan.warps;
    bytes_out[0] = qrnn::gpu_workspace_bytes(a, device);
    bytes_out[1] = qrnn::gpu_workspace_bound(a, device);
}
