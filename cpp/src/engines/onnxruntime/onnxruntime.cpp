// ONNX Runtime over its C ABI: which of a bundle's files become which sessions.
#include <algorithm>

#include "engines/engines.hpp"
#include "engines/onnxruntime/ort_check.hpp"
#include "engines/onnxruntime/ort_graph.hpp"
#include "engines/onnxruntime/ort_session.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {
namespace {

using Extents = std::map<std::string, std::int64_t>;

/// Text stays on the CPU: its operators have no other kernels.
bool takes_text(const GraphSpec& spec) {
  return std::ranges::find(spec.inputs, DType::string, &TensorSpec::dtype) != spec.inputs.end();
}

/// The rows that `spec` gives to the file's symbolic axes, those of guidance.
Extents rows_of(const OnnxFile& file, const GraphSpec& spec) {
  Extents rows;
  for (const TensorSpec& input : spec.inputs) {
    const auto axis = file.rows.find(input.name);
    const bool batched = input.role == "sample" || input.role == "condition";
    if (batched && axis != file.rows.end() && !input.shape.empty()) rows[axis->second] = input.shape[0];
  }
  return rows;
}

class OnnxEngine final : public Engine {
 public:
  explicit OnnxEngine(const EngineOptions& options)
      : library_(ort::Library::open(options.onnxruntime_library)),
        provider_(options.provider),
        sessions_(std::make_shared<ort::Sessions>(library_, options)) {}

  std::set<std::string> files(const GraphSpec& spec) override {
    std::set<std::string> names = {spec.file};
    for (const FileSpec& external : spec.external) names.insert(external.file);
    return names;
  }

  std::unique_ptr<Graph> load(const Files& files, const GraphSpec& spec,
                              const BufferSource& memory) override {
    const GraphContent content = content_for(files, spec);
    const OnnxFile file = read_onnx(content);
    const bool on_cpu = provider_ == "cpu" || takes_text(spec);
    // A device compiles a graph for its extents, and must not do so within a tick: there the rows are fixed,
    // and other rows are another session. On the CPU one session runs both.
    Extents rows = on_cpu ? Extents() : rows_of(file, spec);
    std::erase_if(rows, [](const auto& axis) { return axis.second != 2; });  // no other may be symbolic
    std::shared_ptr<ort::Session> session = sessions_->open(content, on_cpu, rows);
    ort::check_graph(*library_, *session, spec, {});
    const bool has_own_memory = !on_cpu && (provider_ == "cuda" || provider_ == "tensorrt");
    auto graph = make_onnx_graph(library_, std::move(session), has_own_memory,
                                 rows.empty() ? Reopen() : reopen(files, file), spec, memory());
    choices_.push_back({spec.file, "onnxruntime", "engine: onnxruntime"});
    return graph;
  }

  std::string description() const override {
    const int threads = sessions_->threads();
    return "onnxruntime " + library_->version() + ", " + provider_ + ", " + std::to_string(threads) +
           (threads == 1 ? " thread" : " threads");
  }

  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  /// While the files are in memory, as they are until all graphs are loaded: the graph keeps none of them.
  Reopen reopen(const Files& files, const OnnxFile& file) const {
    const std::map<std::string, std::weak_ptr<const FileContent>> known(files.begin(), files.end());
    return [known, file, sessions = sessions_](const GraphSpec& spec) {
      Files still;
      for (const auto& [name, content] : known) {
        if (const auto there = content.lock()) still[name] = there;
      }
      return sessions->open(content_for(still, spec), false, rows_of(file, spec));
    };
  }

  std::shared_ptr<const ort::Library> library_;
  const std::string provider_;
  std::shared_ptr<ort::Sessions> sessions_;
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options) {
  return std::make_unique<OnnxEngine>(options);
}

}  // namespace keystep
