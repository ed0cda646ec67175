#include "log.h"

#include <cxxabi.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <typeinfo>

namespace qrnn_deploy::tensorrt {
namespace {

// TensorRT 11 put a base class under ILoggerFinder and ILogger, which moved their functions behind
// the base's in the tables of virtual functions. The headers that this library was built with say
// nothing about the TensorRT that loads it, nor about the program that brings the logger, so the
// table is read here, and the object's own type information tells which form it has.
constexpr int kFirst10 = 0;
constexpr int kFirst11 = 4;  // after two functions and two destructors of IVersionedInterface

bool ends_with(const char* text, const char* end) {
    const size_t size = std::strlen(text), end_size = std::strlen(end);
    return size >= end_size && std::strcmp(text + size - end_size, end) == 0;
}

// The first of `type` and its bases whose mangled name ends so; null if there is none. By name,
// since the type information of another library may be another object.
const std::type_info* find_base(const std::type_info* type, const char* name) {
    if (ends_with(type->name(), name)) return type;
    if (const auto* single = dynamic_cast<const abi::__si_class_type_info*>(type)) {
        return find_base(single->__base_type, name);
    }
    if (const auto* several = dynamic_cast<const abi::__vmi_class_type_info*>(type)) {
        for (unsigned int i = 0; i < several->__base_count; ++i) {
            const auto* found = find_base(several->__base_info[i].__base_type, name);
            if (found != nullptr) return found;
        }
    }
    return nullptr;
}

// The function that `interface` itself declares first; null where that cannot be told, as in
// code that was compiled without type information.
void* first_function(const void* object, const char* interface) {
    void* const* functions = *static_cast<void* const* const*>(object);
    const auto* type = static_cast<const std::type_info*>(functions[-1]);
    if (type != nullptr) type = find_base(type, interface);
    if (type == nullptr) return nullptr;
    const bool versioned = find_base(type, "19IVersionedInterfaceE") != nullptr;
    return functions[versioned ? kFirst11 : kFirst10];
}

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

nvinfer1::ILogger* find_logger() {
    using FindLogger = nvinfer1::ILogger* (*)(nvinfer1::ILoggerFinder*);
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    if (finder == nullptr) return nullptr;
    const auto find = reinterpret_cast<FindLogger>(first_function(finder, "13ILoggerFinderE"));
    return find == nullptr ? nullptr : find(finder);
}

// False where there is no logger that could be called.
bool log_through_tensorrt(Severity severity, const char* line) {
    using Log = void (*)(nvinfer1::ILogger*, Severity, const char*);
    nvinfer1::ILogger* logger = find_logger();
    if (logger == nullptr) return false;
    const auto write = reinterpret_cast<Log>(first_function(logger, "7ILoggerE"));
    if (write == nullptr) return false;
    write(logger, severity, line);
    return true;
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder.store(finder); }

void log(Severity severity, const std::string& message) noexcept {
    try {
        const std::string line = "qrnn-deploy: " + message;
        if (log_through_tensorrt(severity, line.c_str())) return;
        if (severity <= Severity::kWARNING) std::fprintf(stderr, "%s\n", line.c_str());
    } catch (const std::exception&) {
        std::fputs("qrnn-deploy: a message could not be logged\n", stderr);
    }
}

}  // namespace qrnn_deploy::tensorrt
