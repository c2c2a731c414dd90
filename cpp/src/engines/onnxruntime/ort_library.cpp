#include "engines/onnxruntime/ort_library.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "keystep/status.hpp"
#include "loop/fork.hpp"

namespace keystep::ort {
namespace {

constexpr const char* kInstall =
    "; pip install onnxruntime and give the path of its capi/libonnxruntime.so.* as onnxruntime_library or "
    "in "
    "KEYSTEP_ONNXRUNTIME";

/// Never closed: the library keeps threads and process-wide state of its own.
void* open_handle(const std::string& path) {
  std::string wanted = path;
  if (const char* variable = std::getenv("KEYSTEP_ONNXRUNTIME"); wanted.empty() && variable)
    wanted = variable;
  if (!wanted.empty()) {
    if (void* handle = dlopen(wanted.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  } else {
    for (const char* name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
      if (void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return handle;
    }
  }
  const char* reason = dlerror();
  throw ProviderError(expected("onnxruntime_library",
                               wanted.empty() ? "libonnxruntime.so.1" : "'" + wanted + "'",
                               reason ? reason : "nothing") +
                      kInstall);
}

const ApiBase& api_base(void* handle) {
  using GetApiBase = const ApiBase* (*)() noexcept;
  const auto get = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get == nullptr) {
    throw ProviderError(
        expected("onnxruntime_library", "an ONNX Runtime library", "one without OrtGetApiBase") +
        std::string(kInstall));
  }
  return *get();
}

/// At the exit of a forked child ONNX Runtime's own destructors wait for a thread that stayed with the
/// parent. Handlers run in reverse: this one before those of the library that is open now.
void end_children_quietly() {
  static const std::uint64_t forks_at_load = forks();
  on_exit(
      [](int status, void*) {
        if (forks() == forks_at_load) return;
        std::fflush(nullptr);
        _exit(status);
      },
      nullptr);
}

}  // namespace

std::shared_ptr<const Library> Library::open(const std::string& path) {
  static std::mutex mutex;
  // Never destroyed: an engine may outlive this file's statics when a process ends.
  static auto& libraries = *new std::map<void*, std::shared_ptr<const Library>>;
  const std::lock_guard lock(mutex);
  void* handle = open_handle(path);
  std::shared_ptr<const Library>& library = libraries[handle];
  if (library == nullptr) {
    const ApiBase& base = api_base(handle);
    const void* const* table = base.GetApi(kApiVersion);
    if (table == nullptr) {
      throw ProviderError(expected("onnxruntime_library",
                                   "version 1." + std::to_string(kApiVersion) + " or newer",
                                   base.GetVersionString()));
    }
    library.reset(new Library(base, table));
    end_children_quietly();
  }
  return library;
}

Library::Library(const ApiBase& base, const void* const* table)
    : api_(table), version_(base.GetVersionString()), env_(nullptr, api_.ReleaseEnv) {
  Env* env = nullptr;
  check<ProviderError>(api_.CreateEnv(kLogError, "keystep", &env), "onnxruntime");
  env_.reset(env);
  check<ProviderError>(api_.DisableTelemetryEvents(env), "onnxruntime");
}

int Library::minor_version() const noexcept {
  const char* dot = std::strchr(version_.c_str(), '.');
  return dot ? std::atoi(dot + 1) : 0;
}

std::vector<std::string> Library::providers() const {
  char** names = nullptr;
  int count = 0;
  check<ProviderError>(api_.GetAvailableProviders(&names, &count), "onnxruntime");
  std::vector<std::string> all(names, names + count);
  check<ProviderError>(api_.ReleaseAvailableProviders(names, count), "onnxruntime");
  return all;
}

std::string Library::take_message(Status* status) const {
  if (status == nullptr) return "";
  const Handle<Status> owner(status, api_.ReleaseStatus);
  std::string message = api_.GetErrorMessage(status);
  while (message.ends_with('\n')) message.pop_back();
  return message;
}

}  // namespace keystep::ort
