# Tests of the TensorRT plugin. Included where its glue is built.
foreach(part fields log plugin sru)
  add_executable(qrnn_deploy_trt_${part}_test trt_${part}_test.cc)
  target_link_libraries(qrnn_deploy_trt_${part}_test PRIVATE qrnn_deploy_trt_glue
                                                             qrnn_deploy_fake_gpu)
  add_test(NAME trt_${part} COMMAND qrnn_deploy_trt_${part}_test)
endforeach()

if(TARGET qrnn_deploy_tensorrt)
  add_executable(qrnn_deploy_trt_enqueue_test trt_enqueue_test.cc)
  target_link_libraries(qrnn_deploy_trt_enqueue_test
                        PRIVATE qrnn_deploy_core tensorrt::headers CUDA::cudart_static
                                ${CMAKE_DL_LIBS})
  add_dependencies(qrnn_deploy_trt_enqueue_test qrnn_deploy_tensorrt)
  add_test(NAME trt_enqueue
           COMMAND qrnn_deploy_trt_enqueue_test $<TARGET_FILE:qrnn_deploy_tensorrt>)

  # A libnvinfer.so.MAJOR in a folder of its own, which the tests put into the library path.
  add_library(qrnn_deploy_trt_fake_nvinfer SHARED trt_fake_nvinfer.cc)
  set_target_properties(
    qrnn_deploy_trt_fake_nvinfer
    PROPERTIES OUTPUT_NAME nvinfer SUFFIX .so.${TensorRTHeaders_MAJOR}
               LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fake_nvinfer)
  # A registry must implement the old functions too.
  target_compile_options(qrnn_deploy_trt_fake_nvinfer PRIVATE -Wno-deprecated-declarations)
  add_executable(qrnn_deploy_trt_register_test trt_register_test.cc)
  foreach(target qrnn_deploy_trt_fake_nvinfer qrnn_deploy_trt_register_test)
    target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(${target} PRIVATE tensorrt::headers ${CMAKE_DL_LIBS})
  endforeach()
  add_dependencies(qrnn_deploy_trt_register_test qrnn_deploy_tensorrt_register
                   qrnn_deploy_trt_fake_nvinfer)
  foreach(mode global private path other)
    add_test(NAME trt_register_${mode}
             COMMAND qrnn_deploy_trt_register_test $<TARGET_FILE:qrnn_deploy_tensorrt_register>
                     ${mode})
    set_tests_properties(
      trt_register_${mode}
      PROPERTIES ENVIRONMENT
                 LD_LIBRARY_PATH=$<TARGET_FILE_DIR:qrnn_deploy_trt_fake_nvinfer>:$ENV{LD_LIBRARY_PATH})
  endforeach()
endif()
