#include "pool.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "isa.h"

#if defined(QRNN_DEPLOY_X86)
#include <cpuid.h>
#endif

namespace qrnn {
namespace {

// Fewest channels in a part. Where one thread runs all parts, the hops between them cost it about
// a tenth at B = 8 and a third at B = 1; a second thread brings more.
constexpr int64_t kSmallestPart = 256;
// Channels are split in whole cache lines of the narrowest type, and of whole vectors.
constexpr int64_t kChannelUnit = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#if defined(QRNN_DEPLOY_X86)
bool cpu_has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

Isa choose_isa() {
    const char* wanted = std::getenv("QRNN_DEPLOY_ISA");
    for (Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kPortable}) {
        if (wanted != nullptr && std::strcmp(wanted, isa_name(isa)) == 0 && isa_available(isa)) {
            return isa;
        }
    }
    for (Isa isa : {Isa::kAvx512, Isa::kAvx2}) {
        if (isa_available(isa)) return isa;
    }
    return Isa::kPortable;
}

}  // namespace

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::kAvx512: return "avx512";
        case Isa::kAvx2: return "avx2";
        case Isa::kPortable: return "portable";
    }
    return "portable";
}

bool isa_compiled(Isa isa) {
#if defined(QRNN_DEPLOY_X86)
    return isa == Isa::kAvx512 || isa == Isa::kAvx2 || isa == Isa::kPortable;
#else
    return isa == Isa::kPortable;
#endif
}

bool isa_available(Isa isa) {
    switch (isa) {
#if defined(QRNN_DEPLOY_X86)
        // These also ask whether the operating system saves the wider registers.
        case Isa::kAvx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        case Isa::kAvx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   cpu_has_f16c();
#endif
        case Isa::kPortable: return true;
        default: return false;
    }
}

Isa best_isa() {
    static const Isa isa = choose_isa();
    return isa;
}

void PoolPlan::run(const PoolArguments& a, int64_t part) const {
    const int64_t row = part / channel_parts_ * rows_per_part_;
    const int64_t channel = part % channel_parts_ * channels_per_part_;
    function_(a, {row, std::min(row + rows_per_part_, a.batch), channel,
                  std::min(channel + channels_per_part_, a.hidden)});
}

PoolPlan plan_pool(const PoolArguments& a, int64_t wanted_parts, Isa isa) {
    PoolPlan plan;
    switch (isa) {
#if defined(QRNN_DEPLOY_X86)
        case Isa::kAvx512: plan.function_ = pool_function_avx512(a); break;
        case Isa::kAvx2: plan.function_ = pool_function_avx2(a); break;
#endif
        default: plan.function_ = pool_function_portable(a); break;
    }
    if (a.batch == 0 || a.hidden == 0) return plan;  // nothing to run: no parts

    const int64_t most = std::max<int64_t>(1, a.batch * a.hidden / kSmallestPart);
    const int64_t wanted = std::clamp<int64_t>(wanted_parts, 1, most);
    // Rows first: a row's channels are contiguous.
    plan.rows_per_part_ = divide_up(a.batch, wanted);
    plan.row_parts_ = divide_up(a.batch, plan.rows_per_part_);
    const int64_t per_row = std::max<int64_t>(1, wanted / plan.row_parts_);
    plan.channels_per_part_ = divide_up(divide_up(a.hidden, per_row), kChannelUnit) * kChannelUnit;
    plan.channel_parts_ = divide_up(a.hidden, plan.channels_per_part_);
    return plan;
}

}  // namespace qrnn
