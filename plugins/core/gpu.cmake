# The GPU core. Included where QRNN_DEPLOY_CUDA_FOUND; enables the CUDA language.
set(CMAKE_CUDA_ARCHITECTURES ${QRNN_DEPLOY_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# Not in `all`: it is built where something links it.
add_library(
  qrnn_deploy_core_gpu STATIC EXCLUDE_FROM_ALL
  ${CMAKE_CURRENT_LIST_DIR}/pool_gpu.cc ${CMAKE_CURRENT_LIST_DIR}/pool_gpu_float32.cu
  ${CMAKE_CURRENT_LIST_DIR}/pool_gpu_float16.cu ${CMAKE_CURRENT_LIST_DIR}/pool_gpu_bfloat16.cu)
target_link_libraries(qrnn_deploy_core_gpu PUBLIC qrnn_deploy_core CUDA::cudart_static)
set_target_properties(
  qrnn_deploy_core_gpu
  PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_RUNTIME_LIBRARY Static
             CUDA_COMPILER_LAUNCHER ${CMAKE_CURRENT_LIST_DIR}/../cmake/keep-log.sh)
# ptxas reports registers and spills; keep-log.sh keeps the report for the tests.
target_compile_options(
  qrnn_deploy_core_gpu
  PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v;-Xfatbin=-compress-all;-Xcompiler=-fvisibility=hidden,-Wall,-Wextra>")
