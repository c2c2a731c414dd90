#include "engines/onnxruntime/ort_session.hpp"

#include <cstdlib>
#include <vector>

#include "engines/cores.hpp"
#include "engines/onnxruntime/ort_providers.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep::ort {
namespace {

int optimization_level(const std::string& name) {
  if (name == "none") return kOptimizeNone;
  if (name == "basic") return kOptimizeBasic;
  if (name == "extended") return kOptimizeExtended;
  if (name == "all") return kOptimizeAll;
  throw ArgumentError(expected("optimization", "none | basic | extended | all", "'" + name + "'"));
}

/// The operators of onnxruntime-extensions, as ONNX Runtime's messages name them.
constexpr const char* kExtensionsDomain = "ai.onnx.contrib";

EngineOptions with_extensions(EngineOptions options) {
  const char* variable = std::getenv("KEYSTEP_ORT_EXTENSIONS");
  if (options.extensions_library.empty() && variable != nullptr) options.extensions_library = variable;
  return options;
}

}  // namespace

Sessions::Sessions(std::shared_ptr<const Library> library, const EngineOptions& options)
    : library_(std::move(library)),
      options_(with_extensions(options)),
      threads_(resolved_threads(options.threads)) {
  options_for(false, {}, {}, false);
}

std::shared_ptr<Session> Sessions::open(const GraphContent& content, bool on_cpu,
                                        const std::map<std::string, std::int64_t>& extents, bool open) {
  std::shared_ptr<Session> session;
  const auto open_on = [&](bool cpu) {
    return try_open(content, *options_for(cpu, content.external, extents, open), session);
  };
  const std::string file = readable(content.name);
  std::string message = open_on(on_cpu);
  if (session == nullptr && !extended_ && message.find(kExtensionsDomain) != std::string::npos) {
    need_extensions(file);
    message = open_on(on_cpu);
  }
  if (session != nullptr) return session;
  const bool on_device = !on_cpu && options_.provider != "cpu";
  const std::string cpu_message = on_device ? open_on(true) : message;
  if (session != nullptr) {
    throw ProviderError(expected("provider", options_.provider + " to run " + file + ", as the CPU does",
                                 readable(message, kMaxMessageBytes)) +
                        "; " + provider_hint(options_.provider));
  }
  throw BundleError(expected("file", "a graph that onnxruntime " + library_->version() + " loads", file) +
                    ": " + cpu_message);
}

/// Sets `session`, or returns the message of the failure.
std::string Sessions::try_open(const GraphContent& content, const SessionOptions& options,
                               std::shared_ptr<Session>& session) const {
  Session* raw = nullptr;
  const Api& api = library_->api();
  const std::string message = library_->take_message(api.CreateSessionFromArray(
      &library_->env(), content.graph->data(), content.graph->size(), &options, &raw));
  if (raw != nullptr) session.reset(raw, api.ReleaseSession);
  return message;
}

Handle<SessionOptions> Sessions::options_for(bool on_cpu, const Files& external,
                                             const std::map<std::string, std::int64_t>& extents,
                                             bool open) const {
  const Api& api = library_->api();
  SessionOptions* raw = nullptr;
  check(api.CreateSessionOptions(&raw));
  Handle<SessionOptions> options(raw, api.ReleaseSessionOptions);
  check(api.SetSessionExecutionMode(raw, kSequential));
  check(api.SetIntraOpNumThreads(raw, threads_));
  check(api.SetInterOpNumThreads(raw, 1));
  check(api.SetSessionGraphOptimizationLevel(raw, optimization_level(options_.optimization)));
  // One block for all intermediate results, kept for each set of input shapes: not where they always differ.
  check(open ? api.DisableMemPattern(raw) : api.EnableMemPattern(raw));
  add_spinning(*raw);
  append_provider(*library_, options_, on_cpu, threads_, *raw);
  // Its own format could name other files; what we looked through is ONNX.
  check(api.AddSessionConfigEntry(raw, "session.load_model_format", "ONNX"));
  if (extended_) check(api.RegisterCustomOpsLibrary_V2(raw, options_.extensions_library.c_str()));
  for (const auto& [axis, extent] : extents) {
    check(api.AddFreeDimensionOverrideByName(raw, axis.c_str(), extent));
  }
  add_external(external, *raw);
  return options;
}

/// The library keeps what it needs of them once the session is made.
void Sessions::add_external(const Files& external, SessionOptions& session) const {
  if (external.empty()) return;
  std::vector<const char*> names;
  std::vector<char*> contents;
  std::vector<std::size_t> sizes;
  for (const auto& [name, content] : external) {
    names.push_back(name.c_str());
    // The C API takes them as mutable, and reads them.
    contents.push_back(const_cast<char*>(reinterpret_cast<const char*>(content->data())));
    sizes.push_back(content->size());
  }
  check(library_->api().AddExternalInitializersFromFilesInMemory(&session, names.data(), contents.data(),
                                                                 sizes.data(), names.size()));
}

/// Only once a graph needs them: most policies do without that library.
void Sessions::need_extensions(const std::string& file) {
  const std::string what =
      "extensions_library: expected the operators of onnxruntime-extensions, which " + file + " needs, got ";
  constexpr const char* kInstall =
      "; pip install onnxruntime-extensions and give the path of its library as extensions_library or in "
      "KEYSTEP_ORT_EXTENSIONS";
  if (options_.extensions_library.empty()) throw ProviderError(what + "no path" + kInstall);
  const Handle<SessionOptions> options = options_for(true, {}, {}, false);
  const std::string message = library_->take_message(
      library_->api().RegisterCustomOpsLibrary_V2(options.get(), options_.extensions_library.c_str()));
  if (!message.empty()) throw ProviderError(what + message + kInstall);
  extended_ = true;
}

/// Threads that spin while they wait save a wake-up on an idle machine and fight the rest of a busy one.
/// ONNX Runtime's own 1 ms loses on both: 10 steps of a 16 M U-Net with 2 threads took 24 ms asleep, 33 ms
/// with its default and 17 ms with 20 us; on a busy machine 73 M took 131, 256 and 130 ms. Before 1.31 the
/// duration is not known, so there the threads sleep. `provider_options` override both.
void Sessions::add_spinning(SessionOptions& session) const {
  constexpr const char* kAllow = "session.intra_op.allow_spinning";
  constexpr const char* kDuration = "session.intra_op.spin_duration_us";
  const auto& given = options_.provider_options;
  if (given.contains(kAllow)) return;
  const bool timed = library_->minor_version() >= 31;
  check(library_->api().AddSessionConfigEntry(&session, kAllow, timed ? "1" : "0"));
  if (timed && !given.contains(kDuration)) {
    check(library_->api().AddSessionConfigEntry(&session, kDuration, "20"));
  }
}

}  // namespace keystep::ort
