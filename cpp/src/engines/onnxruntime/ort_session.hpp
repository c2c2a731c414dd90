// Sessions of ONNX Runtime, made from bytes in memory: what was hashed is what is loaded.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engines/onnxruntime/onnx_file.hpp"
#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep::ort {

class Sessions {
 public:
  /// Throws ProviderError or ArgumentError where `options` cannot be met.
  Sessions(std::shared_ptr<const Library> library, const EngineOptions& options);

  /// `on_cpu`: whatever the provider. `extents`: of symbolic axes, by their names; others stay symbolic.
  /// `open`: runs differ in shape.
  /// Throws BundleError: no graph that ONNX Runtime loads; ProviderError: the provider fails where the CPU
  /// does not, or the operators of onnxruntime-extensions are needed and not there.
  std::shared_ptr<Session> open(const GraphContent& content, bool on_cpu,
                                const std::map<std::string, std::int64_t>& extents, bool open);

  int threads() const noexcept { return threads_; }

 private:
  Handle<SessionOptions> options_for(bool on_cpu, const Files& external,
                                     const std::map<std::string, std::int64_t>& extents, bool open) const;
  std::string try_open(const GraphContent& content, const SessionOptions& options,
                       std::shared_ptr<Session>& session) const;
  void add_spinning(SessionOptions& session) const;
  void add_external(const Files& external, SessionOptions& session) const;
  void need_extensions(const std::string& file);
  void check(Status* status) const { library_->check<ProviderError>(status, "onnxruntime"); }

  std::shared_ptr<const Library> library_;
  const EngineOptions options_;
  const int threads_;
  bool extended_ = false;  // sessions have the operators of onnxruntime-extensions
};

}  // namespace keystep::ort
