#include "node_inputs.h"

#include <sstream>

namespace qrnn {

const char* input_names(Pooling pooling) {
    switch (input_count(pooling)) {
        case 3: return "gates, c0, lengths";
        case 5: return "gates, c0, lengths, weight_c, bias";
        default: return "gates, c0, lengths, weight_c, bias, skip";
    }
}

std::string check_rank(int input, int64_t rank) {
    const NodeInput& expected = kNodeInputs[input];
    if (rank == expected.rank) return "";
    std::ostringstream text;
    text << "input " << expected.signature << " has " << rank << " dimensions, expected "
         << expected.rank;
    return text.str();
}

std::string check_columns(Pooling pooling, int64_t columns, int64_t hidden) {
    const int64_t count = gate_count(pooling);
    if (columns % count == 0 && columns / count == hidden) return "";
    std::ostringstream text;
    text << "gates has " << columns << " columns, expected " << count << " times the hidden size "
         << hidden << " of c0";
    return text.str();
}

std::string check_rows(int input, int64_t rows, int64_t columns, int64_t hidden) {
    if (rows == 2 && columns == hidden) return "";
    std::ostringstream text;
    text << "input " << kNodeInputs[input].signature << " has the shape [" << rows << ", "
         << columns << "], expected [2, " << hidden << "] for the hidden size " << hidden
         << " of c0";
    return text.str();
}

std::string check_sizes(Pooling pooling, const NodeSizes& sizes) {
    const auto& gates = sizes[kGates];
    const auto& skip = sizes[kSkip];
    const int64_t batch = gates[1];
    const int64_t hidden = sizes[kC0][1];
    if (sizes[kC0][0] != batch || sizes[kLengths][0] != batch) {
        std::ostringstream text;
        text << "gates has batch size " << batch << ", c0 " << sizes[kC0][0] << " and lengths "
             << sizes[kLengths][0] << ", expected one B for all";
        return text.str();
    }
    std::string error = check_columns(pooling, gates[2], hidden);
    for (int input : {kWeightC, kBias}) {
        if (!error.empty() || !is_sru(pooling)) return error;
        error = check_rows(input, sizes[input][0], sizes[input][1], hidden);
    }
    if (!error.empty() || !reads_skip(pooling)) return error;
    if (skip[0] == gates[0] && skip[1] == batch && skip[2] == hidden) return "";
    std::ostringstream text;
    text << "input " << kNodeInputs[kSkip].signature << " has the shape [" << skip[0] << ", "
         << skip[1] << ", " << skip[2] << "], expected [" << gates[0] << ", " << batch << ", "
         << hidden << "] as h";
    return text.str();
}

void set_inputs(const void* const* inputs, PoolArguments& a) {
    a.gates = inputs[kGates];
    a.c0 = inputs[kC0];
    a.lengths = inputs[kLengths];
    if (is_sru(a.pooling)) {
        a.weight_c = inputs[kWeightC];
        a.bias = inputs[kBias];
    }
    if (reads_skip(a.pooling)) a.skip = inputs[kSkip];
}

}  // namespace qrnn
