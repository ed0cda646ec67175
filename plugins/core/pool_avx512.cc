#include "isa.h"
#include "lanes_avx512.h"
#include "traversal.h"

namespace qrnn {

PoolFunction pool_function_avx512(const PoolArguments& arguments) {
    return function_for<Avx512Lanes>(arguments);
}

}  // namespace qrnn
