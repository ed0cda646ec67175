#include "pool_kernel.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "attributes.h"
#include "created.h"
#include "status.h"

namespace qrnn_deploy {
namespace {

// Steps times channels that a thread must find to be worth waking.
constexpr int64_t kWorkPerThread = 32768;

OrtStatus* node_name(const OrtApi& api, const OrtKernelInfo* info, std::string& name) {
    size_t size = 0;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelInfo_GetNodeName(info, nullptr, &size));
    std::vector<char> text(size + 1, '\0');
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelInfo_GetNodeName(info, text.data(), &size));
    name = text.data();
    return nullptr;
}

template <size_t kRank>
struct Input {
    const void* data = nullptr;
    std::array<int64_t, kRank> shape = {};
};

template <size_t kRank>
OrtStatus* read_input(const OrtApi& api, const OrtKernelContext* context, size_t index,
                      const std::string& where, const char* signature, Input<kRank>& input) {
    const OrtValue* value = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelContext_GetInput(context, index, &value));
    if (value == nullptr) {
        return invalid_argument(api, where + ": input " + signature + " is missing");
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api.GetDimensionsCount(info, &rank);
    if (status == nullptr && rank == kRank) {
        status = api.GetDimensions(info, input.shape.data(), kRank);
    }
    api.ReleaseTensorTypeAndShapeInfo(info);
    QRNN_DEPLOY_RETURN_IF_ERROR(status);
    if (rank != kRank) {
        std::ostringstream text;
        text << where << ": input " << signature << " has " << rank << " dimensions, expected "
             << kRank;
        return invalid_argument(api, text.str());
    }
    // The C API of these versions has no const form.
    void* data = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    input.data = data;
    return nullptr;
}

template <size_t kRank>
OrtStatus* make_output(const OrtApi& api, OrtKernelContext* context, size_t index,
                       const std::array<int64_t, kRank>& shape, void*& data) {
    OrtValue* value = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(
        api.KernelContext_GetOutput(context, index, shape.data(), kRank, &value));
    return api.GetTensorMutableData(value, &data);
}

struct Work {
    const qrnn::PoolPlan& plan;
    const qrnn::PoolArguments& arguments;
};

void run_part(void* user_data, size_t part) {
    const Work& work = *static_cast<const Work*>(user_data);
    work.plan.run(work.arguments, static_cast<int64_t>(part));
}

}  // namespace

OrtStatus* PoolKernel::create(const OrtApi& api, const OrtKernelInfo* info, const char* op_type,
                              qrnn::PoolArguments arguments, PoolKernel** kernel) {
    std::string name;
    QRNN_DEPLOY_RETURN_IF_ERROR(node_name(api, info, name));
    std::string where = std::string(op_type) + " '" + name + "'";
    QRNN_DEPLOY_RETURN_IF_ERROR(read_attributes(api, info, where, arguments));
    *kernel = new PoolKernel(api, std::move(where), arguments);
    created_kernels().add(name);
    return nullptr;
}

OrtStatus* PoolKernel::check_lengths(const qrnn::PoolArguments& a) const {
    for (int64_t row = 0; row < a.batch; ++row) {
        int64_t length;
        std::memcpy(&length, static_cast<const char*>(a.lengths) + row * sizeof length,
                    sizeof length);
        if (length < 0 || length > a.steps) {
            std::ostringstream text;
            text << where_ << ": lengths[" << row << "] is " << length
                 << ", expected 0 to T = " << a.steps;
            return invalid_argument(api_, text.str());
        }
    }
    return nullptr;
}

OrtStatus* PoolKernel::compute(OrtKernelContext* context) const {
    Input<3> gates;
    Input<2> c0;
    Input<1> lengths;
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api_, context, 0, where_, "gates [T, B, G*H]", gates));
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api_, context, 1, where_, "c0 [B, H]", c0));
    QRNN_DEPLOY_RETURN_IF_ERROR(read_input(api_, context, 2, where_, "lengths [B]", lengths));

    qrnn::PoolArguments a = arguments_;
    a.steps = gates.shape[0];
    a.batch = gates.shape[1];
    a.hidden = c0.shape[1];
    const int64_t gate_count = qrnn::gate_count(a.pooling);
    if (c0.shape[0] != a.batch || lengths.shape[0] != a.batch) {
        std::ostringstream text;
        text << where_ << ": gates has batch size " << a.batch << ", c0 " << c0.shape[0]
             << " and lengths " << lengths.shape[0] << ", expected one B for all";
        return invalid_argument(api_, text.str());
    }
    if (gates.shape[2] % gate_count != 0 || gates.shape[2] / gate_count != a.hidden) {
        std::ostringstream text;
        text << where_ << ": gates has " << gates.shape[2] << " columns, expected " << gate_count
             << " times the hidden size " << a.hidden << " of c0";
        return invalid_argument(api_, text.str());
    }
    a.gates = gates.data;
    a.c0 = c0.data;
    a.lengths = lengths.data;
    QRNN_DEPLOY_RETURN_IF_ERROR(check_lengths(a));

    QRNN_DEPLOY_RETURN_IF_ERROR(
        make_output<3>(api_, context, 0, {a.steps, a.batch, a.hidden}, a.h));
    QRNN_DEPLOY_RETURN_IF_ERROR(make_output<2>(api_, context, 1, {a.batch, a.hidden}, a.c_T));

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
        return api_.KernelContext_ParallelFor(context, run_part, parts, 0, &user_data);
    }
    if (parts == 1) run_part(&user_data, 0);
    return nullptr;
}

}  // namespace qrnn_deploy
