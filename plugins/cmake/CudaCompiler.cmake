# Looks for a CUDA compiler: CUDACXX, CUDA_HOME, PATH, /usr/local/cuda. Sets QRNN_DEPLOY_CUDA_FOUND
# and, where it is OFF, QRNN_DEPLOY_CUDA_REASON. Does not enable the language.
#
#   QRNN_DEPLOY_CUDA                 AUTO (default), ON (fail where there is none) or OFF
#   QRNN_DEPLOY_CUDA_ARCHITECTURES   e.g. 90-real; by default every architecture of docs/gpu.md
#                                    that the compiler knows, and PTX of sm_90 (for sm_110,
#                                    which runs nothing else of these) and of the last
set(QRNN_DEPLOY_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set(QRNN_DEPLOY_CUDA_FOUND OFF)
set(QRNN_DEPLOY_CUDA_REASON "")

if(NOT QRNN_DEPLOY_CUDA)
  set(QRNN_DEPLOY_CUDA_REASON "switched off by QRNN_DEPLOY_CUDA")
else()
  if(NOT CMAKE_CUDA_COMPILER)
    if(DEFINED ENV{CUDACXX})
      set(qrnn_nvcc $ENV{CUDACXX})
    else()
      unset(qrnn_nvcc CACHE)
      find_program(qrnn_nvcc nvcc HINTS $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin)
    endif()
    if(qrnn_nvcc)
      set(CMAKE_CUDA_COMPILER ${qrnn_nvcc} CACHE FILEPATH "CUDA compiler")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE version
                    ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed EQUAL 0)
      set(QRNN_DEPLOY_CUDA_REASON "${CMAKE_CUDA_COMPILER} does not run")
    elseif(version MATCHES "release ([0-9]+\\.[0-9]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.0)
      set(QRNN_DEPLOY_CUDA_FOUND ON)
      if(NOT QRNN_DEPLOY_CUDA_ARCHITECTURES)
        # Known since CUDA 12.8: sm_100 and sm_120.
        if(CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.8)
          set(QRNN_DEPLOY_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90 100-real 120)
        else()
          set(QRNN_DEPLOY_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90)
        endif()
      endif()
    else()
      set(QRNN_DEPLOY_CUDA_REASON "${CMAKE_CUDA_COMPILER} is older than CUDA 12.0")
    endif()
  else()
    set(QRNN_DEPLOY_CUDA_REASON "no nvcc in CUDACXX, CUDA_HOME, PATH or /usr/local/cuda")
  endif()
  if(NOT QRNN_DEPLOY_CUDA_FOUND AND NOT QRNN_DEPLOY_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "qrnn-deploy: no CUDA kernels: ${QRNN_DEPLOY_CUDA_REASON}")
  endif()
endif()
if(NOT QRNN_DEPLOY_CUDA_FOUND)
  message(STATUS "qrnn-deploy: no CUDA kernels: ${QRNN_DEPLOY_CUDA_REASON}")
endif()
