// A random problem for the pooling operator, its inputs in exactly sized, oddly aligned memory,
// and the comparison with the reference.
#ifndef QRNN_DEPLOY_TESTS_FUZZ_CASE_H_
#define QRNN_DEPLOY_TESTS_FUZZ_CASE_H_

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "pool.h"
#include "reference.h"
#include "storage_bits.h"

namespace fuzz {

using Random = std::mt19937_64;

// A whole number from low to high, both included.
int64_t uniform(Random& random, int64_t low, int64_t high);
bool chance(Random& random, double probability);

// Heap memory that ends where the data ends, so that the sanitizer sees the first byte beyond it;
// the start has an offset of 0 to 7 bytes.
class Buffer {
  public:
    Buffer() = default;
    Buffer(Random& random, int64_t bytes);
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() { std::free(base_); }

    char* data() const { return static_cast<char*>(base_) + offset_; }
    int64_t size() const { return size_; }

  private:
    void swap(Buffer& other) {
        std::swap(base_, other.base_);
        std::swap(offset_, other.offset_);
        std::swap(size_, other.size_);
    }

    void* base_ = nullptr;
    int64_t offset_ = 0;
    int64_t size_ = 0;
};

struct Case {
    qrnn::Storage storage = qrnn::Storage::kFloat32;
    reference::Problem problem;
    Buffer gates, c0, lengths;
    Buffer weight_c, bias, skip;  // as far as the pooling has them

    explicit Case(Random& random);

    storage_bits::Format format() const { return storage_bits::format_of(storage); }
    int64_t h_bytes() const { return problem.T * problem.B * problem.H * format().bytes; }
    int64_t c_bytes() const { return problem.B * problem.H * 4; }
    // Fills those of the arguments that are not outputs.
    void give(qrnn::PoolArguments& arguments) const;
    std::string describe() const;
    // Empty, or the first value of h or c_T that is wrong.
    std::string mismatch(const reference::Answer& answer, const char* h, const char* c_T) const;
};

}  // namespace fuzz

#endif  // QRNN_DEPLOY_TESTS_FUZZ_CASE_H_
