// The pooling kernel against the memory traffic that it cannot avoid: a loop that reads as many
// arrays as there are gates and writes one, of the sizes of the gates and of h.
//
//   pool_bench [--json] [--rounds N] [--pooling fo|sru] [T B H]
//
// Both use the same memory in alternation, so that caches and pages are in the same state, and the
// same threads. Figures are medians over the rounds; the smallest and largest follow. The stream
// is timed with ordinary stores (what a program gets by default) and with non-temporal ones (which
// spare reading the lines to be written); the ratio to the faster of the two is the strict one.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

struct Sizes {
    int64_t T = 512, B = 8, H = 640;
    int64_t items() const { return T * B * H; }
};

struct Kind {
    const char* name;
    qrnn::Pooling pooling;
    qrnn::Activation activation;  // the operator's default
};
constexpr Kind kKinds[] = {{"fo", qrnn::Pooling::kFO, qrnn::Activation::kTanh},
                           {"sru", qrnn::Pooling::kSRU, qrnn::Activation::kIdentity}};

// A second thread that waits for work without sleeping, as those of ONNX Runtime's pool do.
class Helper {
  public:
    Helper() : thread_([this] { loop(); }) {}
    ~Helper() {
        state_ = kStop;
        thread_.join();
    }
    void start(const std::function<void()>& work) {
        work_ = &work;
        state_ = kWork;
    }
    void wait() {
        while (state_ == kWork) {
        }
    }

  private:
    enum { kIdle, kWork, kStop };

    void loop() {
        while (state_ != kStop) {
            if (state_ != kWork) continue;
            (*work_)();
            state_ = kIdle;
        }
    }

    std::atomic<int> state_{kIdle};
    const std::function<void()>* work_ = nullptr;
    std::thread thread_;
};

// out = the sum of the arrays at in, in + stride, ... over n floats, n a multiple of 16, all
// 64-byte aligned, with the widest vectors that the machine has.
using Stream = void (*)(const float* in, int64_t stride, float* out, int64_t n);

typedef float Vector __attribute__((vector_size(64)));

template <int kArrays>
void stream_plain(const float* in, int64_t stride, float* out, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        Vector sum = *reinterpret_cast<const Vector*>(in + i);
        for (int k = 1; k < kArrays; ++k) {
            sum += *reinterpret_cast<const Vector*>(in + k * stride + i);
        }
        *reinterpret_cast<Vector*>(out + i) = sum;
    }
}

#if defined(__x86_64__)
template <int kArrays>
__attribute__((target("avx2"))) void stream_avx2(const float* in, int64_t stride, float* out,
                                                 int64_t n) {
    for (int64_t i = 0; i < n; i += 8) {
        __m256 sum = _mm256_load_ps(in + i);
        for (int k = 1; k < kArrays; ++k) {
            sum = _mm256_add_ps(sum, _mm256_load_ps(in + k * stride + i));
        }
        _mm256_store_ps(out + i, sum);
    }
}

template <int kArrays>
__attribute__((target("avx512f"))) void stream_avx512(const float* in, int64_t stride, float* out,
                                                      int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __m512 sum = _mm512_load_ps(in + i);
        for (int k = 1; k < kArrays; ++k) {
            sum = _mm512_add_ps(sum, _mm512_load_ps(in + k * stride + i));
        }
        _mm512_store_ps(out + i, sum);
    }
}

template <int kArrays>
__attribute__((target("avx512f"))) void non_temporal_avx512(const float* in, int64_t stride,
                                                            float* out, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __m512 sum = _mm512_load_ps(in + i);
        for (int k = 1; k < kArrays; ++k) {
            sum = _mm512_add_ps(sum, _mm512_load_ps(in + k * stride + i));
        }
        _mm512_stream_ps(out + i, sum);
    }
    _mm_sfence();
}

template <int kArrays>
void non_temporal_sse(const float* in, int64_t stride, float* out, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) {
        __m128 sum = _mm_load_ps(in + i);
        for (int k = 1; k < kArrays; ++k) {
            sum = _mm_add_ps(sum, _mm_load_ps(in + k * stride + i));
        }
        _mm_stream_ps(out + i, sum);
    }
    _mm_sfence();
}

template <int kArrays>
Stream plain_stream() {
    if (__builtin_cpu_supports("avx512f")) return stream_avx512<kArrays>;
    return __builtin_cpu_supports("avx2") ? stream_avx2<kArrays> : stream_plain<kArrays>;
}

template <int kArrays>
Stream non_temporal_stream() {
    return __builtin_cpu_supports("avx512f") ? non_temporal_avx512<kArrays>
                                             : non_temporal_sse<kArrays>;
}
#else
template <int kArrays>
Stream plain_stream() {
    return stream_plain<kArrays>;
}
template <int kArrays>
Stream non_temporal_stream() {
    return stream_plain<kArrays>;  // no portable form of it
}
#endif

double milliseconds(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
}

struct Times {
    std::vector<double> values;

    double at(double fraction) const {
        std::vector<double> sorted = values;
        std::sort(sorted.begin(), sorted.end());
        return sorted[static_cast<size_t>(fraction * static_cast<double>(sorted.size() - 1))];
    }
    double median() const { return at(0.5); }
};

struct Result {
    int threads;
    Times pool, stream, non_temporal;

    // Round by round, so that a slow moment of the machine hits both sides of a ratio.
    Times ratio() const {
        return over_pool([](double plain, double) { return plain; });
    }
    Times strict_ratio() const {
        return over_pool([](double plain, double direct) { return std::min(plain, direct); });
    }

  private:
    template <class Choose>
    Times over_pool(Choose choose) const {
        Times ratios;
        for (size_t i = 0; i < pool.values.size(); ++i) {
            ratios.values.push_back(choose(stream.values[i], non_temporal.values[i]) /
                                    pool.values[i]);
        }
        return ratios;
    }
};

class Bench {
  public:
    Bench(const Kind& kind, const Sizes& sizes)
        : kind_(kind), sizes_(sizes), lengths_(sizes.B, sizes.T) {
        const int arrays = qrnn::gate_count(kind.pooling);
        const size_t bytes = static_cast<size_t>(sizes.items()) * sizeof(float);
        plain_ = arrays == 3 ? plain_stream<3>() : plain_stream<4>();
        direct_ = arrays == 3 ? non_temporal_stream<3>() : non_temporal_stream<4>();
        gates_ = static_cast<float*>(std::aligned_alloc(64, arrays * bytes));
        h_ = static_cast<float*>(std::aligned_alloc(64, bytes));
        if (gates_ == nullptr || h_ == nullptr) std::abort();
        std::mt19937 random(1);
        std::normal_distribution<float> normal(0.0f, 2.0f);
        for (int64_t i = 0; i < arrays * sizes.items(); ++i) gates_[i] = normal(random);
        parameters_.resize(static_cast<size_t>(4 * sizes.H));
        for (float& x : parameters_) x = normal(random) / 2;
        std::memset(h_, 0, bytes);
        c0_.assign(static_cast<size_t>(sizes.B * sizes.H), 0.0f);
        c_T_ = c0_;
    }
    ~Bench() {
        std::free(gates_);
        std::free(h_);
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    Result run(int threads, int rounds) {
        Result result{threads, {}, {}, {}};
        for (int round = -2; round < rounds; ++round) {  // two to warm up
            const double pool = milliseconds([&] { run_pool(threads); });
            const double plain = milliseconds([&] { run_stream(threads, plain_); });
            const double direct = milliseconds([&] { run_stream(threads, direct_); });
            if (round < 0) continue;
            result.pool.values.push_back(pool);
            result.stream.values.push_back(plain);
            result.non_temporal.values.push_back(direct);
        }
        return result;
    }

  private:
    void both(int threads, const std::function<void(int)>& work) {
        if (threads == 1) {
            work(0);
            return;
        }
        const std::function<void()> other = [&] { work(1); };
        helper_.start(other);
        work(0);
        helper_.wait();
    }

    void run_pool(int threads) {
        qrnn::PoolArguments a;
        a.pooling = kind_.pooling;
        a.activation = kind_.activation;
        a.steps = sizes_.T;
        a.batch = sizes_.B;
        a.hidden = sizes_.H;
        a.gates = gates_;
        a.c0 = c0_.data();
        a.lengths = lengths_.data();
        a.weight_c = parameters_.data();
        a.bias = parameters_.data() + 2 * sizes_.H;
        a.h = h_;
        a.c_T = c_T_.data();
        const qrnn::PoolPlan plan = qrnn::plan_pool(a, threads, qrnn::best_isa());
        both(threads, [&](int thread) {
            for (int64_t part = thread; part < plan.parts(); part += threads) plan.run(a, part);
        });
    }

    void run_stream(int threads, Stream loop) {
        const int64_t n = sizes_.items();
        const int64_t share = n / threads / 16 * 16;
        both(threads, [&](int thread) {
            const int64_t begin = thread * share;
            const int64_t count = thread + 1 == threads ? n - begin : share;
            loop(gates_ + begin, n, h_ + begin, count);
        });
    }

    const Kind kind_;
    const Sizes sizes_;
    Stream plain_, direct_;
    float* gates_ = nullptr;
    float* h_ = nullptr;
    std::vector<float> c0_, c_T_, parameters_;
    std::vector<int64_t> lengths_;
    Helper helper_;
};

void print_times(const char* name, const Times& times, double bytes) {
    std::printf("  %-22s %8.3f ms (%.3f to %.3f)  %5.1f GB/s\n", name, times.median(), times.at(0),
                times.at(1), bytes / times.median() * 1e-6);
}

// Median, smallest, largest: milliseconds, or a ratio.
std::string json_spread(const Times& times) {
    char text[120];
    std::snprintf(text, sizeof text, "[%.6f, %.6f, %.6f]", times.median(), times.at(0),
                  times.at(1));
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    bool json = false;
    int rounds = 51;
    const Kind* kind = &kKinds[0];
    std::vector<int64_t> numbers;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            rounds = std::max(1, std::atoi(argv[++i]));
        } else if (std::strcmp(argv[i], "--pooling") == 0 && i + 1 < argc) {
            const std::string wanted = argv[++i];
            kind = nullptr;
            for (const Kind& known : kKinds) {
                if (wanted == known.name) kind = &known;
            }
        } else {
            numbers.push_back(std::atoll(argv[i]));
        }
    }
    Sizes sizes;
    if (numbers.size() == 3) sizes = {numbers[0], numbers[1], numbers[2]};
    if (kind == nullptr || (!numbers.empty() && numbers.size() != 3) || sizes.items() <= 0 ||
        sizes.items() % 16 != 0) {
        std::fprintf(stderr,
                     "usage: %s [--json] [--rounds N] [--pooling fo|sru] [T B H], T*B*H a multiple "
                     "of 16\n",
                     argv[0]);
        return 2;
    }
    std::vector<Result> results;
    {
        Bench bench(*kind, sizes);
        for (int threads : {1, 2}) results.push_back(bench.run(threads, rounds));
    }
    const double bytes =
        static_cast<double>(sizes.items()) * sizeof(float) * (qrnn::gate_count(kind->pooling) + 1);
    if (json) {
        std::printf(
            "{\"pooling\": \"%s\", \"T\": %lld, \"B\": %lld, \"H\": %lld, \"isa\": \"%s\", "
            "\"rounds\": %d, "
            "\"results\": [",
            kind->name, static_cast<long long>(sizes.T), static_cast<long long>(sizes.B),
            static_cast<long long>(sizes.H), qrnn::isa_name(qrnn::best_isa()), rounds);
    } else {
        std::printf(
            "%s-pooling, float32, T=%lld B=%lld H=%lld, %s, %d rounds: median (min to max)\n",
            kind->name, static_cast<long long>(sizes.T), static_cast<long long>(sizes.B),
            static_cast<long long>(sizes.H), qrnn::isa_name(qrnn::best_isa()), rounds);
    }
    for (const Result& result : results) {
        if (json) {
            std::printf(
                "%s{\"threads\": %d, \"pool_ms\": %s, \"stream_ms\": %s, "
                "\"stream_non_temporal_ms\": %s, \"ratio\": %s, \"strict_ratio\": %s}",
                result.threads == 1 ? "" : ", ", result.threads, json_spread(result.pool).c_str(),
                json_spread(result.stream).c_str(), json_spread(result.non_temporal).c_str(),
                json_spread(result.ratio()).c_str(), json_spread(result.strict_ratio()).c_str());
            continue;
        }
        std::printf("%d thread%s\n", result.threads, result.threads == 1 ? "" : "s");
        print_times("pool", result.pool, bytes);
        print_times("stream", result.stream, bytes);
        print_times("stream, non-temporal", result.non_temporal, bytes);
        std::printf("  pool reaches %.2f of the stream (%.2f of the faster one)\n",
                    result.ratio().median(), result.strict_ratio().median());
    }
    if (json) std::printf("]}\n");
    return 0;
}
