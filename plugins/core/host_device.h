// Functions that run on the CPU and, where the CUDA compiler reads them, on the GPU too.
#ifndef QRNN_DEPLOY_CORE_HOST_DEVICE_H_
#define QRNN_DEPLOY_CORE_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define QRNN_HD __host__ __device__ __forceinline__
#else
// Always inlined: translation units are compiled for different instruction sets, and a shared
// out-of-line copy could be the one that this CPU cannot run.
#define QRNN_HD inline __attribute__((always_inline))
#endif

#endif  // QRNN_DEPLOY_CORE_HOST_DEVICE_H_
