#include "cpu_kernel.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <thread>

#include "status.h"

namespace qrnn_deploy {
namespace {

// Steps times channels that a thread must find to be worth waking.
constexpr int64_t kWorkPerThread = 32768;

struct Work {
    const qrnn::PoolPlan& plan;
    const qrnn::PoolArguments& arguments;
};

void run_part(void* user_data, size_t part) {
    const Work& work = *static_cast<const Work*>(user_data);
    work.plan.run(work.arguments, static_cast<int64_t>(part));
}

class CpuKernel : public PoolKernel {
  public:
    using PoolKernel::PoolKernel;

    // Checks everything before it makes an output.
    OrtStatus* compute(OrtKernelContext* context) const override {
        qrnn::PoolArguments a;
        QRNN_DEPLOY_RETURN_IF_ERROR(read_inputs(context, a));
        QRNN_DEPLOY_RETURN_IF_ERROR(check_lengths(a));
        QRNN_DEPLOY_RETURN_IF_ERROR(make_outputs(context, a));

        // The runtime does not tell how many threads it has; it is at most those of the machine.
        static const int64_t machine_threads = std::max(1u, std::thread::hardware_concurrency());
        // Where B or H is 0 there is no array whose size bounds the product.
        const bool empty = a.batch == 0 || a.hidden == 0;
        const int64_t work = empty ? 0 : a.steps * a.batch * a.hidden;
        const qrnn::PoolPlan plan =
            qrnn::plan_pool(a, std::min(machine_threads, work / kWorkPerThread), qrnn::best_isa());
        Work user_data = {plan, a};
        const size_t parts = static_cast<size_t>(plan.parts());
        if (parts > 1) {
            return api().KernelContext_ParallelFor(context, run_part, parts, 0, &user_data);
        }
        if (parts == 1) run_part(&user_data, 0);
        return nullptr;
    }

  private:
    OrtStatus* check_lengths(const qrnn::PoolArguments& a) const {
        for (int64_t row = 0; row < a.batch; ++row) {
            int64_t length;
            std::memcpy(&length, static_cast<const char*>(a.lengths) + row * sizeof length,
                        sizeof length);
            if (length < 0 || length > a.steps) {
                std::ostringstream text;
                text << node().where << ": lengths[" << row << "] is " << length
                     << ", expected 0 to T = " << a.steps;
                return invalid_argument(api(), text.str());
            }
        }
        return nullptr;
    }
};

}  // namespace

OrtStatus* make_cpu_kernel(const OrtKernelInfo*, const PoolNode& node, PoolKernel** kernel) {
    *kernel = new CpuKernel(node);
    return nullptr;
}

}  // namespace qrnn_deploy
