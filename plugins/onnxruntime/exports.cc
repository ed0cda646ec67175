// The functions that the library exports; exports.map hides every other symbol.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

#include "created.h"
#include "ops.h"
#include "pool.h"
#include "shape_inference.h"
#include "status.h"

#define QRNN_DEPLOY_EXPORT __attribute__((visibility("default")))

namespace qrnn_deploy {
namespace {

// One domain for each runtime in the process; sessions keep pointers to it, so it is never freed.
OrtStatus* domain_of(const OrtApi& api, OrtCustomOpDomain*& domain) {
    static std::mutex mutex;
    static auto& domains = *new std::map<const OrtApi*, OrtCustomOpDomain*>;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = domains.find(&api);
    if (found != domains.end()) {
        domain = found->second;
        return nullptr;
    }
    QRNN_DEPLOY_RETURN_IF_ERROR(api.CreateCustomOpDomain(kDomain, &domain));
    if (OrtStatus* status = add_operators(api, domain)) {
        api.ReleaseCustomOpDomain(domain);
        return status;
    }
    domains[&api] = domain;
    return nullptr;
}

// A status of a runtime that lacks our API version: any version can make one.
OrtStatus* too_old(const OrtApiBase* base) {
    for (uint32_t version = kApiVersion - 1; version > 0; --version) {
        if (const OrtApi* api = base->GetApi(version)) {
            const std::string message =
                "qrnn-deploy kernels: ONNX Runtime is " + std::string(base->GetVersionString()) +
                ", expected 1." + std::to_string(kApiVersion) + " or later: upgrade onnxruntime";
            return api->CreateStatus(ORT_FAIL, message.c_str());
        }
    }
    return nullptr;
}

// The CUDA compiler's version and the architectures that it compiled for, or null.
std::string cuda_info() {
#ifdef QRNN_DEPLOY_CUDA_VERSION
    return "{\"version\": \"" QRNN_DEPLOY_CUDA_VERSION
           "\", \"architectures\": \"" QRNN_DEPLOY_CUDA_ARCHITECTURES "\"}";
#else
    return "null";
#endif
}

std::string build_info() {
#if defined(__clang__)
    const std::string compiler = "clang " __clang_version__;
#else
    const std::string compiler = "gcc " __VERSION__;
#endif
    std::string isas;
    for (qrnn::Isa isa : {qrnn::Isa::kAvx512, qrnn::Isa::kAvx2, qrnn::Isa::kPortable}) {
        if (!qrnn::isa_compiled(isa)) continue;
        isas += (isas.empty() ? "\"" : ", \"") + std::string(qrnn::isa_name(isa)) + "\"";
    }
    return "{\"version\": \"" QRNN_DEPLOY_VERSION "\", \"ort_header_version\": " +
           std::to_string(ORT_API_VERSION) +
           ", \"ort_api_version\": " + std::to_string(kApiVersion) + ", \"compiler\": \"" +
           compiler + "\", \"isas\": [" + isas + "], \"cuda\": " + cuda_info() + "}";
}

}  // namespace
}  // namespace qrnn_deploy

extern "C" {

// Called by ONNX Runtime when the library is registered with a session's options.
QRNN_DEPLOY_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                             const OrtApiBase* base) {
    using namespace qrnn_deploy;
    const OrtApi* api = base->GetApi(kApiVersion);
    if (api == nullptr) return too_old(base);
    return guarded(*api, [&] {
        set_inference_api(*api);
        OrtCustomOpDomain* domain = nullptr;
        QRNN_DEPLOY_RETURN_IF_ERROR(domain_of(*api, domain));
        return api->AddCustomOpDomain(options, domain);
    });
}

// The version of the operator domain that the kernels implement.
QRNN_DEPLOY_EXPORT int qrnn_deploy_schema_version(void) { return qrnn_deploy::kDomainVersion; }

// A JSON object: versions, compiler, and the instruction sets and GPUs that it was compiled for.
QRNN_DEPLOY_EXPORT const char* qrnn_deploy_build_info(void) {
    static const std::string info = qrnn_deploy::build_info();
    return info.c_str();
}

// The instruction set chosen for this machine: avx512, avx2 or portable.
QRNN_DEPLOY_EXPORT const char* qrnn_deploy_isa(void) { return qrnn::isa_name(qrnn::best_isa()); }

// The nodes for which kernels were created since the last drain: lines "cpu NAME" or "cuda NAME",
// ended by NUL. Returns the bytes needed; drains only if `size` is at least that.
QRNN_DEPLOY_EXPORT size_t qrnn_deploy_drain_created(char* buffer, size_t size) {
    return qrnn_deploy::created_kernels().drain(buffer, size);
}

}  // extern "C"
