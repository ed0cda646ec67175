// A libnvinfer of the tests' own, with the three functions that the self-registering library looks
// for.
#ifndef QRNN_DEPLOY_TESTS_TRT_FAKE_NVINFER_H_
#define QRNN_DEPLOY_TESTS_TRT_FAKE_NVINFER_H_

#include <string>

#include "trt_fakes.h"

struct FakeNvinfer {
    int major = NV_TENSORRT_MAJOR;
    std::string taken;       // the name for which there is a plugin already
    std::string registered;  // "namespace::name ", one after the other
    trt_fakes::Logger logger;
};

// Exported by the library, as `fake_nvinfer`.
using FakeNvinferFunction = FakeNvinfer& (*)();

#endif  // QRNN_DEPLOY_TESTS_TRT_FAKE_NVINFER_H_
