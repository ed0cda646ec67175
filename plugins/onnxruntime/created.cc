#include "created.h"

#include <cstring>

namespace qrnn_deploy {
namespace {

// Where nobody drains, the record stops here instead of growing with every session.
constexpr size_t kMostBytes = size_t{1} << 20;

}  // namespace

void CreatedKernels::add(const char* device, const std::string& node_name) {
    const std::string line = std::string(device) + ' ' + node_name;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (lines_.size() + line.size() + 1 > kMostBytes) return;
    if (!lines_.empty()) lines_ += '\n';
    lines_ += line;
}

size_t CreatedKernels::drain(char* buffer, size_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t needed = lines_.size() + 1;
    if (buffer != nullptr && size >= needed) {
        std::memcpy(buffer, lines_.c_str(), needed);
        lines_.clear();
    }
    return needed;
}

CreatedKernels& created_kernels() {
    static CreatedKernels record;
    return record;
}

}  // namespace qrnn_deploy
