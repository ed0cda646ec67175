#include "cuda_kernel.h"

#include <cuda_runtime_api.h>

#include <sstream>

#include "pool_gpu.h"
#include "status.h"

namespace qrnn_deploy {
namespace {

// Memory of the provider's arena, tied to the stream of the context: once given back, it is handed
// out again on that stream alone, so it may be given back while the work is still queued. After a
// first run the arena has it at hand, and no device memory is allocated during a graph capture.
class Scratch {
  public:
    Scratch(const OrtApi& api, OrtAllocator* allocator) : api_(api), allocator_(allocator) {}
    ~Scratch() {
        if (data_ != nullptr) drop(api_.AllocatorFree(allocator_, data_));
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    OrtStatus* take(const OrtKernelContext* context, size_t size) {
        const OrtMemoryInfo* memory = nullptr;
        QRNN_DEPLOY_RETURN_IF_ERROR(api_.AllocatorGetInfo(allocator_, &memory));
        return api_.KernelContext_GetScratchBuffer(context, memory, size, &data_);
    }
    void* data() const { return data_; }

  private:
    void drop(OrtStatus* status) const {  // a destructor has nobody to tell
        if (status != nullptr) api_.ReleaseStatus(status);
    }

    const OrtApi& api_;
    OrtAllocator* const allocator_;
    void* data_ = nullptr;
};

class CudaKernel : public PoolKernel {
  public:
    // Owns `allocator`.
    CudaKernel(const PoolNode& node, OrtAllocator* allocator, int device_id)
        : PoolKernel(node), allocator_(allocator), device_id_(device_id) {}
    ~CudaKernel() override { api().ReleaseAllocator(allocator_); }

    // Only enqueues: what the device meets later, the runtime learns when it synchronises.
    OrtStatus* compute(OrtKernelContext* context) const override {
        qrnn::PoolArguments a;
        QRNN_DEPLOY_RETURN_IF_ERROR(read_inputs(context, a));
        QRNN_DEPLOY_RETURN_IF_ERROR(make_outputs(context, a));
        void* stream = nullptr;
        QRNN_DEPLOY_RETURN_IF_ERROR(api().KernelContext_GetGPUComputeStream(context, &stream));
        qrnn::GpuDevice device;
        QRNN_DEPLOY_RETURN_IF_ERROR(status_of(select(device)));
        // Without a stream the runtime cannot tie scratch memory to one; the pool needs none then.
        const size_t wanted = stream == nullptr ? 0 : qrnn::gpu_workspace_bytes(a, device);
        Scratch scratch(api(), allocator_);
        if (wanted > 0) QRNN_DEPLOY_RETURN_IF_ERROR(scratch.take(context, wanted));
        return status_of(qrnn::pool_on_gpu(a, device, scratch.data(), wanted,
                                           static_cast<cudaStream_t>(stream)));
    }

  private:
    // The runtime has made the session's device current. This library has a CUDA runtime of its
    // own, which must think so too.
    cudaError_t select(qrnn::GpuDevice& device) const {
        int current = -1;
        cudaError_t error = cudaGetDevice(&current);
        if (error == cudaSuccess && current != device_id_) error = cudaSetDevice(device_id_);
        return error != cudaSuccess ? error : qrnn::current_gpu(&device);
    }

    OrtStatus* status_of(cudaError_t error) const {
        if (error == cudaSuccess) return nullptr;
        std::ostringstream text;
        text << node().where << ": CUDA reports " << cudaGetErrorName(error) << " ("
             << cudaGetErrorString(error) << ") on device " << device_id_;
        if (error == cudaErrorNoKernelImageForDevice) {
            text << "; the kernels are compiled for " QRNN_DEPLOY_CUDA_ARCHITECTURES
                    ": build qrnn-deploy on this machine";
        }
        return api().CreateStatus(ORT_FAIL, text.str().c_str());
    }

    OrtAllocator* const allocator_;
    const int device_id_;
};

}  // namespace

OrtStatus* make_cuda_kernel(const OrtKernelInfo* info, const PoolNode& node, PoolKernel** kernel) {
    const OrtApi& api = node.api;
    OrtAllocator* allocator = nullptr;
    QRNN_DEPLOY_RETURN_IF_ERROR(api.KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
    const OrtMemoryInfo* memory = nullptr;
    int device_id = 0;
    OrtStatus* status = api.AllocatorGetInfo(allocator, &memory);
    if (status == nullptr) status = api.MemoryInfoGetId(memory, &device_id);
    if (status != nullptr) {
        api.ReleaseAllocator(allocator);
        return status;
    }
    *kernel = new CudaKernel(node, allocator, device_id);
    return nullptr;
}

}  // namespace qrnn_deploy
