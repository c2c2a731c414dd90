// The loaded ONNX Runtime library: its calls, its one environment, its errors as text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engines/onnxruntime/ort_api.hpp"

namespace keystep::ort {

template <class T>
using Handle = std::unique_ptr<T, void (*)(T*) noexcept>;

class Library {
 public:
  /// `path` empty: the environment variable KEYSTEP_ONNXRUNTIME, then the loader. One instance, and so one
  /// OrtEnv, per library and process, shared by all engines. Throws ProviderError.
  static std::shared_ptr<const Library> open(const std::string& path);

  const Api& api() const noexcept { return api_; }
  const Env& env() const noexcept { return *env_; }
  const std::string& version() const noexcept { return version_; }
  int minor_version() const noexcept;  ///< the 31 of "1.31.0"; 0 if it cannot be read
  /// E.g. "CPUExecutionProvider"; built in, which does not yet mean that its own libraries load.
  std::vector<std::string> providers() const;

  /// The text of a failed call, which is released; empty for success.
  std::string take_message(Status* status) const;
  /// Throws ErrorType with "<what>: <message>" unless the call succeeded.
  template <class ErrorType>
  void check(Status* status, const std::string& what) const {
    if (status != nullptr) throw ErrorType(what + ": " + take_message(status));
  }

 private:
  Library(const ApiBase& base, const void* const* table);

  Api api_;
  std::string version_;
  Handle<Env> env_;
};

}  // namespace keystep::ort
