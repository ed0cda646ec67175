#include "isa.h"
#include "lanes_avx2.h"
#include "traversal.h"

namespace qrnn {

PoolFunction pool_function_avx2(const PoolArguments& arguments) {
    return function_for<Avx2Lanes>(arguments);
}

}  // namespace qrnn
