# Finds the C++ headers of TensorRT 10 or 11; the library itself is not needed.
#
# Places, in this order:
#   1. TENSORRT_INCLUDE_DIR, a CMake or an environment variable; nothing else is tried then
#   2. TENSORRT_ROOT, likewise, with its folder `include`; nothing else is tried then
#   3. the usual folders of the system
#   4. what an earlier call of 5 left in the cache folder
#   5. the wheel kernel-lens 2.0.1, which bundles the headers of TensorRT 10.14: downloaded with
#      pip, checked, and unpacked, not installed
#
# Variables read: QRNN_DEPLOY_CACHE (CMake or environment; default: the build folder),
# QRNN_DEPLOY_OFFLINE (skips 5) and QRNN_DEPLOY_PYTHON (a Python with pip).
# Result: TensorRTHeaders_FOUND, TensorRTHeaders_VERSION, TensorRTHeaders_MAJOR and the target
# tensorrt::headers; otherwise TensorRTHeaders_REASON, one line.

set(_trt_wheel kernel_lens-2.0.1-py3-none-any.whl)
set(_trt_wheel_sha256 07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0)
set(_trt_hint "set TENSORRT_INCLUDE_DIR to the folder of NvInferRuntime.h")

if(NOT QRNN_DEPLOY_CACHE)
  set(QRNN_DEPLOY_CACHE "$ENV{QRNN_DEPLOY_CACHE}")
endif()
if(NOT QRNN_DEPLOY_CACHE)
  set(QRNN_DEPLOY_CACHE "${CMAKE_BINARY_DIR}/deps")
endif()
foreach(_trt_variable TENSORRT_INCLUDE_DIR TENSORRT_ROOT)
  if(NOT ${_trt_variable})
    set(${_trt_variable} "$ENV{${_trt_variable}}")
  endif()
endforeach()

# Looks in the given folders alone, and remembers nothing between configurations.
function(_trt_look_in)
  find_path(_trt_found NvInferRuntime.h PATHS ${ARGN} NO_DEFAULT_PATH NO_CACHE)
  if(_trt_found)
    set(TensorRTHeaders_DIR "${_trt_found}" PARENT_SCOPE)
  endif()
endfunction()

# Leaves the headers in `folder`, or the reason in _trt_error.
function(_trt_fetch folder)
  find_program(_trt_python NAMES ${QRNN_DEPLOY_PYTHON} python3 python NO_CACHE)
  if(NOT _trt_python)
    set(_trt_error "no python3 to download them with" PARENT_SCOPE)
    return()
  endif()
  set(beside "${folder}.tmp")
  file(REMOVE_RECURSE "${beside}")
  file(MAKE_DIRECTORY "${beside}")
  execute_process(
    COMMAND ${_trt_python} -m pip download --quiet --disable-pip-version-check --no-deps
            --only-binary :all: --dest "${beside}" kernel-lens==2.0.1
    RESULT_VARIABLE code OUTPUT_QUIET ERROR_VARIABLE error ERROR_STRIP_TRAILING_WHITESPACE)
  if(NOT code EQUAL 0)
    string(REGEX REPLACE "^.*\n" "" error "${error}")
    set(_trt_error "pip download failed: ${error}" PARENT_SCOPE)
  else()
    file(SHA256 "${beside}/${_trt_wheel}" digest)
    if(NOT digest STREQUAL _trt_wheel_sha256)
      set(_trt_error "${_trt_wheel} has the SHA-256 ${digest}, expected ${_trt_wheel_sha256}"
          PARENT_SCOPE)
    else()
      # A wheel is a zip archive. The folder is unpacked beside its place and renamed, so that
      # the cache is whole or absent.
      execute_process(COMMAND ${CMAKE_COMMAND} -E tar xf ${_trt_wheel} kernel_lens/include/tensorrt
                      WORKING_DIRECTORY "${beside}" OUTPUT_QUIET ERROR_QUIET)
      if(EXISTS "${beside}/kernel_lens/include/tensorrt/NvInferRuntime.h")
        file(REMOVE_RECURSE "${folder}")
        file(RENAME "${beside}/kernel_lens/include/tensorrt" "${folder}")
      else()
        set(_trt_error "${_trt_wheel} holds no kernel_lens/include/tensorrt" PARENT_SCOPE)
      endif()
    endif()
  endif()
  file(REMOVE_RECURSE "${beside}")
endfunction()

set(TensorRTHeaders_DIR "")
set(TensorRTHeaders_REASON "")
set(_trt_error "")
if(TENSORRT_INCLUDE_DIR)
  _trt_look_in("${TENSORRT_INCLUDE_DIR}")
  if(NOT TensorRTHeaders_DIR)
    set(TensorRTHeaders_REASON
        "TENSORRT_INCLUDE_DIR=${TENSORRT_INCLUDE_DIR} holds no NvInferRuntime.h")
  endif()
elseif(TENSORRT_ROOT)
  _trt_look_in("${TENSORRT_ROOT}/include")
  if(NOT TensorRTHeaders_DIR)
    set(TensorRTHeaders_REASON "TENSORRT_ROOT=${TENSORRT_ROOT} holds no include/NvInferRuntime.h")
  endif()
else()
  set(_trt_cached "${QRNN_DEPLOY_CACHE}/tensorrt-headers-10.14")
  _trt_look_in(/usr/local/tensorrt/include /opt/tensorrt/include /usr/local/include /usr/include
               /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
               /usr/include/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu "${_trt_cached}")
  if(NOT TensorRTHeaders_DIR AND NOT QRNN_DEPLOY_OFFLINE)
    _trt_fetch("${_trt_cached}")
    _trt_look_in("${_trt_cached}")
  endif()
  if(NOT TensorRTHeaders_DIR)
    set(TensorRTHeaders_REASON "no TensorRT headers; ${_trt_hint}")
    if(_trt_error)
      string(APPEND TensorRTHeaders_REASON " [${_trt_error}]")
    endif()
  endif()
endif()

set(TensorRTHeaders_VERSION "")
set(TensorRTHeaders_MAJOR "")
if(TensorRTHeaders_DIR)
  # 10.14: "#define TRT_MAJOR_ENTERPRISE 10", and NV_TENSORRT_MAJOR is that; 10.0: the number itself
  foreach(_trt_part MAJOR MINOR)
    file(STRINGS "${TensorRTHeaders_DIR}/NvInferVersion.h" _trt_line
         REGEX "^#define (TRT_${_trt_part}_ENTERPRISE|NV_TENSORRT_${_trt_part}) [0-9]+")
    if(_trt_line MATCHES " ([0-9]+)")
      list(APPEND TensorRTHeaders_VERSION ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(JOIN TensorRTHeaders_VERSION . TensorRTHeaders_VERSION)
  string(REGEX MATCH "^[0-9]+" TensorRTHeaders_MAJOR "${TensorRTHeaders_VERSION}")
  if(TensorRTHeaders_VERSION VERSION_LESS 10.0)
    set(TensorRTHeaders_REASON
        "TensorRT headers in ${TensorRTHeaders_DIR} are ${TensorRTHeaders_VERSION}, expected 10.0 or later; ${_trt_hint}"
    )
    set(TensorRTHeaders_DIR "")
  endif()
endif()

set(TensorRTHeaders_FOUND FALSE)
if(TensorRTHeaders_DIR)
  set(TensorRTHeaders_FOUND TRUE)
  message(STATUS "TensorRT headers: ${TensorRTHeaders_VERSION} in ${TensorRTHeaders_DIR}")
  if(NOT TARGET tensorrt::headers)
    # Imported, hence included as a system's headers: their warnings are not ours.
    add_library(tensorrt::headers INTERFACE IMPORTED GLOBAL)
    set_target_properties(tensorrt::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
                                                       "${TensorRTHeaders_DIR}")
  endif()
endif()
