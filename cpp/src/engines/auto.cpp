// Engines "auto" and "native": our own kernels for the U-Nets whose bundle has weights for them, ONNX Runtime
// for every other graph.
#include <algorithm>
#include <cstdio>

#include "engines/engines.hpp"
#include "engines/native/native.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

class AutoEngine final : public Engine {
 public:
  explicit AutoEngine(const EngineOptions& options)
      : options_(options),
        demanded_(options.engine == "native" || !options.precision.empty()),
        graphs_(make_onnxruntime_engine(options)) {}

  std::set<std::string> files(const GraphSpec& spec) override {
    return why_not_native(spec).empty() ? std::set{spec.unet->file} : graphs_->files(spec);
  }

  std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    const std::string reason = why_not_native(spec);
    if (!reason.empty()) {
      auto model = graphs_->load(files, spec, rows);
      choices_.push_back({spec.file, "onnxruntime", reason});
      return model;
    }
    auto model = native_->load(files, spec, rows);
    choices_.push_back({spec.file, "native", spec.unet->file + ", " + accuracy(*spec.unet)});
    const std::string description = native_->description(*spec.unet);
    if (std::ranges::find(descriptions_, description) == descriptions_.end()) {
      descriptions_.push_back(description);
    }
    return model;
  }

  /// The native engine runs beside the provider cpu only: both have the host's memory.
  std::unique_ptr<Tensors> tensors() const override { return graphs_->tensors(); }

  std::string description() const override {
    std::string all;
    for (const std::string& native : descriptions_) all += native + " + ";
    return all + graphs_->description();
  }

  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  const std::string& precision(const UnetSpec& unet) const {
    return options_.precision.empty() ? unet.precision : options_.precision;
  }

  /// Empty: the native engine runs it. Only a precision whose error is known is taken unasked. The engine
  /// is made for the first U-Net that may need it: its options are no business of other bundles.
  std::string why_not_native(const GraphSpec& spec) {
    if (!spec.unet) return "no U-Net with weights of its own";
    const UnetSpec& unet = *spec.unet;
    if (options_.provider != "cpu") return expected("provider", "cpu", options_.provider);
    if (!demanded_ && !unet.errors.contains(precision(unet))) {
      return expected("unet.errors." + precision(unet), "a measured error", "none");
    }
    if (!native_) native_ = std::make_unique<native::NativeEngine>(options_);
    const std::string refusal = native_->refusal(unet);
    if (demanded_ && !refusal.empty()) {
      throw ProviderError(expected("engine", "a U-Net that native runs", unet.file) + ": " + refusal);
    }
    return refusal;
  }

  std::string accuracy(const UnetSpec& unet) const {
    const auto error = unet.errors.find(precision(unet));
    if (error == unet.errors.end()) return precision(unet) + ", never measured against torch";
    char text[64];
    std::snprintf(text, sizeof text, ", measured within %.2g of torch", error->second.max);
    return precision(unet) + text;
  }

  const EngineOptions options_;
  const bool demanded_;  ///< the native engine, or an error
  std::unique_ptr<Engine> graphs_;
  std::unique_ptr<native::NativeEngine> native_;
  std::vector<std::string> descriptions_;  ///< of what `native_` runs, each once
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_auto_engine(const EngineOptions& options) {
  return std::make_unique<AutoEngine>(options);
}

}  // namespace keystep
