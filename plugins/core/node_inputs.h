// The inputs of a pooling node (docs/op.md) and the rules for their sizes, for every framework that
// hands nodes over. A check returns an empty string, or one line that says what is wrong.
#ifndef QRNN_DEPLOY_CORE_NODE_INPUTS_H_
#define QRNN_DEPLOY_CORE_NODE_INPUTS_H_

#include <array>
#include <cstdint>
#include <string>

#include "pool.h"

namespace qrnn {

// In the node's order. All have the first three, SRUs the next two, kSRUInput the last.
inline constexpr int kGates = 0, kC0 = 1, kLengths = 2, kWeightC = 3, kBias = 4, kSkip = 5;
inline constexpr int kMostInputs = 6;

constexpr int input_count(Pooling p) { return 3 + (is_sru(p) ? 2 : 0) + (reads_skip(p) ? 1 : 0); }

enum class Element { kStorage, kFloat32, kInt64 };  // kStorage: that of gates and h

struct NodeInput {
    const char* name;
    const char* signature;  // name and shape
    int rank;
    Element element;
};
inline constexpr NodeInput kNodeInputs[kMostInputs] = {
    {"gates", "gates [T, B, G*H]", 3, Element::kStorage},
    {"c0", "c0 [B, H]", 2, Element::kFloat32},
    {"lengths", "lengths [B]", 1, Element::kInt64},
    {"weight_c", "weight_c [2, H]", 2, Element::kFloat32},
    {"bias", "bias [2, H]", 2, Element::kFloat32},
    {"skip", "skip [T, B, H]", 3, Element::kStorage},
};

// "gates, c0, lengths", as far as the pooling has them.
const char* input_names(Pooling pooling);

std::string check_rank(int input, int64_t rank);
// The columns of gates against the hidden size of c0.
std::string check_columns(Pooling pooling, int64_t columns, int64_t hidden);
// weight_c or bias against the hidden size of c0.
std::string check_rows(int input, int64_t rows, int64_t columns, int64_t hidden);

// The sizes of each input, of the ranks above. None is negative.
using NodeSizes = std::array<std::array<int64_t, 3>, kMostInputs>;
std::string check_sizes(Pooling pooling, const NodeSizes& sizes);

// Sets the arguments' addresses of the inputs, of which there are input_count(arguments.pooling).
void set_inputs(const void* const* inputs, PoolArguments& arguments);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_NODE_INPUTS_H_
