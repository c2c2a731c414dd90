// ONNX Runtime over its C ABI: which of a bundle's files become which sessions.
#include <algorithm>

#include "engines/engines.hpp"
#include "engines/onnxruntime/ort_check.hpp"
#include "engines/onnxruntime/ort_graph.hpp"
#include "engines/onnxruntime/ort_session.hpp"
#include "engines/open_axis.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {
namespace {

using AxisExtents = std::map<std::string, std::int64_t>;

/// Text stays on the CPU: its operators have no other kernels.
bool takes_text(const GraphSpec& spec) {
  return std::ranges::find(spec.inputs, DType::string, &TensorSpec::dtype) != spec.inputs.end();
}

/// The file's symbolic axes that are rows, with so many.
AxisExtents rows_of(const OnnxFile& file, const GraphSpec& spec, int rows) {
  AxisExtents extents;
  for (const TensorSpec& input : spec.inputs) {
    const auto axis = file.rows.find(input.name);
    if (axis != file.rows.end() && has_rows(spec, input)) extents[axis->second] = rows;
  }
  return extents;
}

class OnnxEngine final : public Engine {
 public:
  explicit OnnxEngine(const EngineOptions& options)
      : library_(ort::Library::open(options.onnxruntime_library)),
        provider_(options.provider),
        sessions_(std::make_unique<ort::Sessions>(library_, options)) {}

  std::set<std::string> files(const GraphSpec& spec) override {
    std::set<std::string> names = {spec.file};
    for (const FileSpec& external : spec.external) names.insert(external.file);
    return names;
  }

  std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    const GraphContent content = content_for(files, spec);
    const OnnxFile file = read_onnx(content);
    const bool on_cpu = provider_ == "cpu" || takes_text(spec);
    std::vector<OnnxVariant> variants;
    for (const int count : rows) {
      // A device compiles a graph for its extents, and must not do so within a tick: there the rows are
      // fixed, and other rows are another session. On the CPU one session runs all.
      const AxisExtents extents = on_cpu ? AxisExtents() : rows_of(file, spec, count);
      const bool first = variants.empty();
      auto session = first || !extents.empty() ? sessions_->open(content, on_cpu, extents, is_open(spec))
                                               : variants.front().session;
      ort::check_graph(*library_, *session, spec, count, rows.size() > 1 || spec.any_rows);
      variants.push_back({std::move(session), with_rows(spec, count)});
    }
    const bool has_own_memory = !on_cpu && (provider_ == "cuda" || provider_ == "tensorrt");
    choices_.push_back({spec.file, "onnxruntime", "engine: onnxruntime"});
    return make_onnx_model(library_, std::move(variants), has_own_memory);
  }

  std::unique_ptr<Tensors> tensors() const override { return make_host_tensors(); }

  std::string description() const override {
    const int threads = sessions_->threads();
    return "onnxruntime " + library_->version() + ", " + provider_ + ", " + std::to_string(threads) +
           (threads == 1 ? " thread" : " threads");
  }

  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  std::shared_ptr<const ort::Library> library_;
  const std::string provider_;
  std::unique_ptr<ort::Sessions> sessions_;
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options) {
  return std::make_unique<OnnxEngine>(options);
}

}  // namespace keystep
