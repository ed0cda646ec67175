// Names of the nodes for which kernels were created, so that a caller can count them.
#ifndef QRNN_DEPLOY_ONNXRUNTIME_CREATED_H_
#define QRNN_DEPLOY_ONNXRUNTIME_CREATED_H_

#include <cstddef>
#include <mutex>
#include <string>

namespace qrnn_deploy {

class CreatedKernels {
  public:
    // `device`: cpu or cuda.
    void add(const char* device, const std::string& node_name);

    // Writes one line "device name" for each, with a terminating NUL, and forgets them. Returns the
    // bytes that this takes; where `size` is less, it writes and forgets nothing.
    size_t drain(char* buffer, size_t size);

  private:
    std::mutex mutex_;
    std::string lines_;
};

CreatedKernels& created_kernels();

}  // namespace qrnn_deploy

#endif  // QRNN_DEPLOY_ONNXRUNTIME_CREATED_H_
