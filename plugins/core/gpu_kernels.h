// The bodies of the GPU kernels, as templates over a thread context, so that the same lines run on
// the GPU and, with real threads and barriers, in the tests of a machine without one (docs/gpu.md).
//
// A context has
//   kWarp                         threads that hold neighbouring lanes of one group
//   thread(), block()             the indices of this thread
//   barrier()                     of the block's threads
//   shared()                      the block's memory, floats
//   take_ticket(counter)          an atomic increment; the old value
//   publish(word, value)          an atomic store, seen by other blocks at some later time
//   peek(word)                    an atomic load
//   publish_in_order, peek_in_order  the same; what came before the store comes before what follows
//                                 a load that saw it
//   pause()                       between two peeks
#ifndef QRNN_DEPLOY_CORE_GPU_KERNELS_H_
#define QRNN_DEPLOY_CORE_GPU_KERNELS_H_

#include "gpu_chain.h"
#include "gpu_scan.h"
#include "gpu_walk.h"

#endif  // QRNN_DEPLOY_CORE_GPU_KERNELS_H_
