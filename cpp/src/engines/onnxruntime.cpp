// ONNX Runtime over its C ABI: the session options, and files turned into sessions.
#include <cstdlib>

#include "engines/cores.hpp"
#include "engines/engines.hpp"
#include "engines/ort_graph.hpp"
#include "engines/ort_providers.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

int optimization_level(const std::string& name) {
  if (name == "none") return ort::kOptimizeNone;
  if (name == "basic") return ort::kOptimizeBasic;
  if (name == "extended") return ort::kOptimizeExtended;
  if (name == "all") return ort::kOptimizeAll;
  throw ArgumentError(expected("optimization", "none | basic | extended | all", "'" + name + "'"));
}

/// The operators of onnxruntime-extensions, as ONNX Runtime's messages name them.
constexpr const char* kExtensionsDomain = "ai.onnx.contrib";

std::string find_extensions(const std::string& path) {
  const char* variable = std::getenv("KEYSTEP_ORT_EXTENSIONS");
  return path.empty() && variable != nullptr ? variable : path;
}

class OnnxEngine final : public Engine {
 public:
  explicit OnnxEngine(const EngineOptions& options)
      : library_(ort::Library::open(options.onnxruntime_library)),
        provider_(options.provider),
        threads_(options.threads > 0 ? options.threads : physical_cores()),
        session_options_(nullptr, library_->api().ReleaseSessionOptions),
        extensions_library_(find_extensions(options.extensions_library)) {
    const ort::Api& api = library_->api();
    const auto check = [this](ort::Status* status) { library_->check<ProviderError>(status, "onnxruntime"); };
    ort::SessionOptions* raw = nullptr;
    check(api.CreateSessionOptions(&raw));
    session_options_.reset(raw);
    check(api.SetSessionExecutionMode(raw, ort::kSequential));
    check(api.SetIntraOpNumThreads(raw, threads_));
    check(api.SetInterOpNumThreads(raw, 1));
    check(api.SetSessionGraphOptimizationLevel(raw, optimization_level(options.optimization)));
    check(api.EnableMemPattern(raw));  // one block for all intermediate results, for each set of input shapes
    add_spinning(options, *raw);
    ort::append_provider(*library_, options, threads_, *raw);
  }

  std::unique_ptr<Graph> load(const std::filesystem::path& file, const GraphSpec& spec,
                              const Buffers& buffers) override {
    const bool has_own_memory = provider_ == "cuda" || provider_ == "tensorrt";
    auto graph = make_onnx_graph(library_, open_session(file), has_own_memory, spec, buffers);
    choices_.push_back({spec.file, "onnxruntime", "engine: onnxruntime"});
    return graph;
  }

  std::string description() const override {
    return "onnxruntime " + library_->version() + ", " + provider_ + ", " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }

  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  std::shared_ptr<ort::Session> open_session(const std::filesystem::path& file) {
    std::shared_ptr<ort::Session> session;
    const auto open = [&] {
      ort::Session* raw = nullptr;
      const ort::Api& api = library_->api();
      std::string message = library_->take_message(
          api.CreateSession(&library_->env(), file.c_str(), session_options_.get(), &raw));
      if (raw != nullptr) session.reset(raw, api.ReleaseSession);
      return message;
    };
    std::string message = open();
    if (session == nullptr && !extended_ && message.find(kExtensionsDomain) != std::string::npos) {
      add_extensions(file.filename().string());
      message = open();
    }
    if (session == nullptr) {
      throw BundleError(expected("file", "a graph that onnxruntime " + library_->version() + " loads",
                                 file.filename().string()) +
                        ": " + message);
    }
    return session;
  }

  /// Only once a graph needs them: most policies do without that library.
  void add_extensions(const std::string& file) {
    const std::string what = "extensions_library: expected the operators of onnxruntime-extensions, which " +
                             file + " needs, got ";
    constexpr const char* kInstall =
        "; pip install onnxruntime-extensions and give the path of its library as extensions_library or in "
        "KEYSTEP_ORT_EXTENSIONS";
    if (extensions_library_.empty()) throw ProviderError(what + "no path" + kInstall);
    const std::string message = library_->take_message(
        library_->api().RegisterCustomOpsLibrary_V2(session_options_.get(), extensions_library_.c_str()));
    if (!message.empty()) throw ProviderError(what + message + kInstall);
    extended_ = true;
  }

  /// Threads that spin while they wait save a wake-up on an idle machine and fight the rest of a busy one.
  /// ONNX Runtime's own 1 ms loses on both: 10 steps of a 16 M U-Net with 2 threads took 24 ms asleep, 33 ms
  /// with its default and 17 ms with 20 us; on a busy machine 73 M took 131, 256 and 130 ms. Before 1.31 the
  /// duration is not known, so there the threads sleep. `provider_options` override both.
  void add_spinning(const EngineOptions& options, ort::SessionOptions& session) const {
    constexpr const char* kAllow = "session.intra_op.allow_spinning";
    constexpr const char* kDuration = "session.intra_op.spin_duration_us";
    if (options.provider_options.contains(kAllow)) return;
    const bool timed = library_->minor_version() >= 31;
    const auto add = [&](const char* key, const char* value) {
      library_->check<ProviderError>(library_->api().AddSessionConfigEntry(&session, key, value),
                                     "onnxruntime");
    };
    add(kAllow, timed ? "1" : "0");
    if (timed && !options.provider_options.contains(kDuration)) add(kDuration, "20");
  }

  std::shared_ptr<const ort::Library> library_;
  std::string provider_;
  int threads_;
  ort::Handle<ort::SessionOptions> session_options_;
  std::string extensions_library_;
  bool extended_ = false;  // extensions_library_ is registered
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options) {
  return std::make_unique<OnnxEngine>(options);
}

}  // namespace keystep
