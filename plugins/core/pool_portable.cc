#include "isa.h"
#include "lanes_portable.h"
#include "traversal.h"

namespace qrnn {

PoolFunction pool_function_portable(const PoolArguments& arguments) {
    return function_for<PortableLanes>(arguments);
}

}  // namespace qrnn
