# Finds the C headers of ONNX Runtime 1.18 or later; the library itself is not needed.
#
# Places, in this order:
#   1. ONNXRUNTIME_INCLUDE_DIR, a CMake or an environment variable; nothing else is tried then
#   2. the system: onnxruntime's CMake package, pkg-config, the usual folders
#   3. what an earlier call of 4 or 5 left in the cache folder
#   4. the official release archive
#   5. Debian's libonnxruntime-dev, downloaded through apt and unpacked, not installed
#
# Variables read: QRNN_DEPLOY_CACHE (CMake or environment; default: the build folder) and
# QRNN_DEPLOY_OFFLINE (skips 4 and 5).
# Result: ONNXRuntimeHeaders_FOUND and the target onnxruntime::headers; otherwise
# ONNXRuntimeHeaders_REASON, one line.

set(_ort_release 1.23.2)
set(_ort_header onnxruntime_c_api.h)
set(_ort_suffixes . onnxruntime onnxruntime/core/session core/session)
set(_ort_hint "set ONNXRUNTIME_INCLUDE_DIR to the folder of onnxruntime_c_api.h")

if(NOT QRNN_DEPLOY_CACHE)
  set(QRNN_DEPLOY_CACHE "$ENV{QRNN_DEPLOY_CACHE}")
endif()
if(NOT QRNN_DEPLOY_CACHE)
  set(QRNN_DEPLOY_CACHE "${CMAKE_BINARY_DIR}/deps")
endif()
if(NOT ONNXRUNTIME_INCLUDE_DIR)
  set(ONNXRUNTIME_INCLUDE_DIR "$ENV{ONNXRUNTIME_INCLUDE_DIR}")
endif()

# Looks in the given folders alone, and remembers nothing between configurations.
function(_ort_look_in)
  find_path(_ort_found ${_ort_header} PATHS ${ARGN} PATH_SUFFIXES ${_ort_suffixes}
            NO_DEFAULT_PATH NO_CACHE)
  if(_ort_found)
    set(ONNXRuntimeHeaders_DIR "${_ort_found}" PARENT_SCOPE)
  endif()
endfunction()

set(ONNXRuntimeHeaders_DIR "")
set(ONNXRuntimeHeaders_REASON "")
if(ONNXRUNTIME_INCLUDE_DIR)
  _ort_look_in("${ONNXRUNTIME_INCLUDE_DIR}")
  if(NOT ONNXRuntimeHeaders_DIR)
    set(ONNXRuntimeHeaders_REASON
        "ONNXRUNTIME_INCLUDE_DIR=${ONNXRUNTIME_INCLUDE_DIR} holds no ${_ort_header}")
  endif()
else()
  find_package(onnxruntime CONFIG QUIET)
  if(TARGET onnxruntime::onnxruntime)
    get_target_property(_ort_dirs onnxruntime::onnxruntime INTERFACE_INCLUDE_DIRECTORIES)
    _ort_look_in(${_ort_dirs})
  endif()
  if(NOT ONNXRuntimeHeaders_DIR)
    find_package(PkgConfig QUIET)
    if(PKG_CONFIG_FOUND)
      pkg_check_modules(_ort_pc QUIET libonnxruntime)
      _ort_look_in(${_ort_pc_INCLUDE_DIRS})
    endif()
  endif()
  if(NOT ONNXRuntimeHeaders_DIR)
    _ort_look_in(/usr/local/include /usr/include /opt/onnxruntime/include)
  endif()
  if(NOT ONNXRuntimeHeaders_DIR)
    _ort_look_in("${QRNN_DEPLOY_CACHE}/onnxruntime-release/include"
                 "${QRNN_DEPLOY_CACHE}/onnxruntime-debian/usr/include")
  endif()

  if(NOT ONNXRuntimeHeaders_DIR AND NOT QRNN_DEPLOY_OFFLINE)
    # The headers are the same in the archives of all platforms.
    set(_ort_name onnxruntime-linux-x64-${_ort_release})
    set(_ort_archive "${QRNN_DEPLOY_CACHE}/${_ort_name}.tgz")
    file(
      DOWNLOAD
      https://github.com/microsoft/onnxruntime/releases/download/v${_ort_release}/${_ort_name}.tgz
      "${_ort_archive}"
      STATUS _ort_status TIMEOUT 60 INACTIVITY_TIMEOUT 5)
    list(GET _ort_status 0 _ort_code)
    if(_ort_code EQUAL 0)
      execute_process(
        COMMAND ${CMAKE_COMMAND} -E tar xzf "${_ort_archive}" "${_ort_name}/include"
        WORKING_DIRECTORY "${QRNN_DEPLOY_CACHE}" OUTPUT_QUIET ERROR_QUIET)
      # Unpacked beside its place and renamed, so that the cache is whole or absent.
      if(EXISTS "${QRNN_DEPLOY_CACHE}/${_ort_name}/include/${_ort_header}")
        file(REMOVE_RECURSE "${QRNN_DEPLOY_CACHE}/onnxruntime-release")
        file(RENAME "${QRNN_DEPLOY_CACHE}/${_ort_name}" "${QRNN_DEPLOY_CACHE}/onnxruntime-release")
        _ort_look_in("${QRNN_DEPLOY_CACHE}/onnxruntime-release/include")
      endif()
    endif()
    file(REMOVE "${_ort_archive}")
  endif()

  if(NOT ONNXRuntimeHeaders_DIR AND NOT QRNN_DEPLOY_OFFLINE)
    execute_process(
      COMMAND sh "${CMAKE_CURRENT_LIST_DIR}/fetch-ort-headers.sh"
              "${QRNN_DEPLOY_CACHE}/onnxruntime-debian"
      RESULT_VARIABLE _ort_code ERROR_VARIABLE _ort_error OUTPUT_QUIET
      ERROR_STRIP_TRAILING_WHITESPACE)
    if(_ort_code EQUAL 0)
      _ort_look_in("${QRNN_DEPLOY_CACHE}/onnxruntime-debian/usr/include")
    else()
      string(REGEX REPLACE "\n.*" "" _ort_error "${_ort_error}")
    endif()
  endif()
  if(NOT ONNXRuntimeHeaders_DIR)
    set(ONNXRuntimeHeaders_REASON "no ONNX Runtime headers; ${_ort_hint}")
    if(_ort_error)
      string(APPEND ONNXRuntimeHeaders_REASON " [${_ort_error}]")
    endif()
  endif()
endif()

set(ONNXRuntimeHeaders_VERSION "")
if(ONNXRuntimeHeaders_DIR)
  file(STRINGS "${ONNXRuntimeHeaders_DIR}/${_ort_header}" _ort_line
       REGEX "^#define ORT_API_VERSION [0-9]+")
  if(_ort_line MATCHES "([0-9]+)")
    set(ONNXRuntimeHeaders_VERSION 1.${CMAKE_MATCH_1})
  endif()
  if(ONNXRuntimeHeaders_VERSION VERSION_LESS 1.18)
    set(ONNXRuntimeHeaders_REASON
        "ONNX Runtime headers in ${ONNXRuntimeHeaders_DIR} are ${ONNXRuntimeHeaders_VERSION}, expected 1.18 or later; ${_ort_hint}"
    )
    set(ONNXRuntimeHeaders_DIR "")
  endif()
endif()

set(ONNXRuntimeHeaders_FOUND FALSE)
if(ONNXRuntimeHeaders_DIR)
  set(ONNXRuntimeHeaders_FOUND TRUE)
  message(STATUS "ONNX Runtime headers: ${ONNXRuntimeHeaders_VERSION} in ${ONNXRuntimeHeaders_DIR}")
  if(NOT TARGET onnxruntime::headers)
    add_library(onnxruntime::headers INTERFACE IMPORTED)
    set_target_properties(
      onnxruntime::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${ONNXRuntimeHeaders_DIR}")
  endif()
endif()
