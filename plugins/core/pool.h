// The pooling operators on the CPU: pointers and sizes in, no framework, no allocation, no threads
// of its own. The caller splits the work and runs the parts where it likes.
//
//   PoolArguments arguments = ...;
//   PoolPlan plan = plan_pool(arguments, wanted_parts, best_isa());
//   for (int64_t part = 0; part < plan.parts(); ++part) plan.run(arguments, part);
#ifndef QRNN_DEPLOY_CORE_POOL_H_
#define QRNN_DEPLOY_CORE_POOL_H_

#include <stdint.h>

#include "recurrence.h"

namespace qrnn {

enum class Storage { kFloat32, kFloat16, kBFloat16 };
enum class Isa { kPortable, kAvx2, kAvx512 };

// Every array is dense and in row-major order. No pointer needs an alignment, and a pointer to an
// array of no elements may be null. Outputs overlap neither each other nor an input, except that
// c_T may be c0.
struct PoolArguments {
    Pooling pooling = Pooling::kFO;
    Activation activation = Activation::kTanh;
    Storage storage = Storage::kFloat32;
    bool reverse = false;            // walk t = lengths[b]-1 ... 0
    float zoneout_scale = 1.0f;      // where takes_zoneout(pooling)
    int64_t steps = 0;               // T
    int64_t batch = 0;               // B
    int64_t hidden = 0;              // H
    const void* gates = nullptr;     // [T, B, gate_count * H] of `storage`
    const void* c0 = nullptr;        // [B, H] float32
    const void* lengths = nullptr;   // [B] int64, each in 0..T (the caller has checked)
    const void* weight_c = nullptr;  // [2, H] float32: v_f, v_r; of an SRU only
    const void* bias = nullptr;      // [2, H] float32: b_f, b_r; of an SRU only
    const void* skip = nullptr;      // [T, B, H] of `storage`; of kSRUInput only
    void* h = nullptr;               // [T, B, H] of `storage`
    void* c_T = nullptr;             // [B, H] float32
};

// A block of batch rows and channels, walked through all of time.
struct PoolRange {
    int64_t row_begin, row_end;
    int64_t channel_begin, channel_end;
};

using PoolFunction = void (*)(const PoolArguments&, const PoolRange&);

// A split of the (batch, channel) plane. The result does not depend on it, bit for bit.
class PoolPlan {
  public:
    int64_t parts() const { return row_parts_ * channel_parts_; }
    void run(const PoolArguments& arguments, int64_t part) const;

  private:
    friend PoolPlan plan_pool(const PoolArguments&, int64_t, Isa);

    PoolFunction function_ = nullptr;
    int64_t rows_per_part_ = 0;
    int64_t channels_per_part_ = 0;
    int64_t row_parts_ = 0;
    int64_t channel_parts_ = 0;
};

// At most about `wanted_parts` parts: fewer when they would be too small to stream memory well.
PoolPlan plan_pool(const PoolArguments& arguments, int64_t wanted_parts, Isa isa);

// The best instruction set that this build holds and this CPU has. The environment variable
// QRNN_DEPLOY_ISA (avx512, avx2, portable) names a lesser one; any other value is ignored.
// Read once.
Isa best_isa();
bool isa_compiled(Isa isa);   // into this build
bool isa_available(Isa isa);  // compiled, and this CPU has it
const char* isa_name(Isa isa);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_POOL_H_
