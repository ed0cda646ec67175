# Tests of the TensorRT plugin. Included where its glue is built.
foreach(part fields log plugin)
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

  # It has the functions of TensorRT that the library looks for.
  add_executable(qrnn_deploy_trt_register_test trt_register_test.cc)
  set_target_properties(qrnn_deploy_trt_register_test PROPERTIES ENABLE_EXPORTS ON)
  target_include_directories(qrnn_deploy_trt_register_test SYSTEM
                             PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(qrnn_deploy_trt_register_test PRIVATE tensorrt::headers ${CMAKE_DL_LIBS})
  # A registry must implement the old functions too.
  target_compile_options(qrnn_deploy_trt_register_test PRIVATE -Wno-deprecated-declarations)
  add_dependencies(qrnn_deploy_trt_register_test qrnn_deploy_tensorrt_register)
  foreach(major same other)
    add_test(NAME trt_register_${major}
             COMMAND qrnn_deploy_trt_register_test $<TARGET_FILE:qrnn_deploy_tensorrt_register> ${major})
  endforeach()
endif()
