// ONNX Runtime with CUDA and TensorRT providers that are none: sessions for them run on the CPU and are
// counted, or fail as they do without a driver. It wraps the library that KEYSTEP_ONNXRUNTIME names.
#include "pretend_gpu.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>
#include <string>

#include "engines/onnxruntime/ort_api.hpp"

namespace {

using namespace keystep::ort;

constexpr std::size_t kSlots = 280;  // as many as we call
std::array<const void*, kSlots> table;
const ApiBase* real_base = nullptr;
const void* const* real = nullptr;

std::set<const SessionOptions*> device_options;
keystep::test::PretendGpu state;

template <class Function>
Function* real_call(std::size_t slot) {
  return reinterpret_cast<Function*>(const_cast<void*>(real[slot]));
}

Status* fail(const char* message) { return real_call<Status*(int, const char*)>(0)(1, message); }

Status* providers(char*** names, int* count) noexcept {
  static std::array<std::string, 3> all = {"TensorrtExecutionProvider", "CUDAExecutionProvider",
                                           "CPUExecutionProvider"};
  static std::array<char*, 3> pointers = {all[0].data(), all[1].data(), all[2].data()};
  *names = pointers.data();
  *count = static_cast<int>(pointers.size());
  return nullptr;
}

Status* create_options(void** options) noexcept {
  static int any;
  *options = &any;
  return nullptr;
}

Status* append(SessionOptions* session, const void*) noexcept {
  device_options.insert(session);
  return nullptr;
}

void release_session_options(SessionOptions* options) noexcept {
  device_options.erase(options);
  real_call<void(SessionOptions*)>(100)(options);
}

Status* fix_axis(SessionOptions* session, const char* name, std::int64_t extent) noexcept {
  state.axes.push_back(std::string(name) + "=" + std::to_string(extent));
  return real_call<Status*(SessionOptions*, const char*, std::int64_t)>(124)(session, name, extent);
}

Status* create_session(const Env* env, const void* model, std::size_t bytes, const SessionOptions* options,
                       Session** session) noexcept {
  if (device_options.contains(options)) {
    if (state.fails) return fail("CUDA failure 35: CUDA driver version is insufficient ; expr=cudaSetDevice");
    ++state.device_sessions;
  }
  return real_call<Status*(const Env*, const void*, std::size_t, const SessionOptions*, Session**)>(8)(
      env, model, bytes, options, session);
}

const void* const* get_api(std::uint32_t version) noexcept {
  real = real_base->GetApi(version);
  if (real == nullptr) return nullptr;
  std::copy_n(real, kSlots, table.begin());
  const auto replace = [](std::size_t slot, auto* function) {
    table[slot] = reinterpret_cast<const void*>(function);
  };
  replace(8, create_session);
  replace(100, release_session_options);
  replace(124, fix_axis);
  replace(125, providers);
  replace(126, +[](char**, int) noexcept -> Status* { return nullptr; });
  for (const std::size_t slot : {std::size_t{171}, std::size_t{205}}) replace(slot, create_options);
  for (const std::size_t slot : {std::size_t{172}, std::size_t{206}}) {
    replace(
        slot, +[](void*, const char* const*, const char* const*, std::size_t) noexcept -> Status* {
          return nullptr;
        });
  }
  for (const std::size_t slot : {std::size_t{174}, std::size_t{208}}) replace(slot, +[](void*) noexcept {});
  for (const std::size_t slot : {std::size_t{170}, std::size_t{204}}) replace(slot, append);
  return table.data();
}

}  // namespace

extern "C" keystep::test::PretendGpu* pretend_gpu() { return &state; }

extern "C" const ApiBase* OrtGetApiBase() noexcept {
  static ApiBase base = [] {
    const char* path = std::getenv("KEYSTEP_ONNXRUNTIME");
    void* library = dlopen(path ? path : "libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
    using GetApiBase = const ApiBase* (*)() noexcept;
    real_base = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase"))();
    return ApiBase{get_api, real_base->GetVersionString};
  }();
  return &base;
}
