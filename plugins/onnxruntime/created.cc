#include "created.h"

#include <cstring>

namespace qrnn_deploy {
namespace {

// Where nobody drains, the record stops here instead of growing with every session.
constexpr size_t kMostBytes = size_t{1} << 20;

}  // namespace

void CreatedKernels::add(const std::string& node_name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (names_.size() + node_name.size() + 1 > kMostBytes) return;
    if (!names_.empty()) names_ += '\n';
    names_ += node_name;
}

size_t CreatedKernels::drain(char* buffer, size_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t needed = names_.size() + 1;
    if (buffer != nullptr && size >= needed) {
        std::memcpy(buffer, names_.c_str(), needed);
        names_.clear();
    }
    return needed;
}

CreatedKernels& created_kernels() {
    static CreatedKernels record;
    return record;
}

}  // namespace qrnn_deploy
