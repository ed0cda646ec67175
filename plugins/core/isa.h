// One entry per instruction set, each defined in its own translation unit.
#ifndef QRNN_DEPLOY_CORE_ISA_H_
#define QRNN_DEPLOY_CORE_ISA_H_

#include "pool.h"

namespace qrnn {

PoolFunction pool_function_portable(const PoolArguments& arguments);
PoolFunction pool_function_avx2(const PoolArguments& arguments);
PoolFunction pool_function_avx512(const PoolArguments& arguments);

}  // namespace qrnn

#endif  // QRNN_DEPLOY_CORE_ISA_H_
