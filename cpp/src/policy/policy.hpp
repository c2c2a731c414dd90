// What is loaded once and shared by all sessions on it: the bundle, its weights, the engine's threads.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "keystep/runtime.hpp"
#include "policy/vocabulary.hpp"

namespace keystep {

using EngineFactory = std::function<std::unique_ptr<Engine>(const EngineOptions&)>;

/// Who runs a policy: a Runtime one with a controller, a CodeRuntime a planner that writes.
enum class Host { runtime, code_runtime };

/// Immutable: sessions on several threads may use one at once.
class Policy {
 public:
  /// Loads and checks the bundle, opens the engine, loads every graph. Throws BundleError, ProviderError,
  /// ArgumentError, also for a family that is another host's.
  Policy(const std::filesystem::path& folder, const RuntimeOptions& options,
         const EngineFactory& make = &make_engine, Host host = Host::runtime);

  const std::shared_ptr<const Bundle>& bundle() const noexcept { return bundle_; }
  /// Checked, and where they leave something to the bundle, with what it says.
  const RuntimeOptions& options() const noexcept { return options_; }
  /// As chosen by the options. None for a controller that is one graph `act`.
  const std::optional<SamplerSpec>& sampler() const noexcept { return sampler_; }
  const std::optional<SamplerSpec>& planner_sampler() const noexcept { return planner_sampler_; }
  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }  ///< of the planner's text
  std::string engine_description() const { return engine_->description(); }
  std::vector<EngineChoice> engine_choices() const { return engine_->choices(); }

  /// The tensors of a session, of all graphs.
  std::unique_ptr<Tensors> tensors() const;
  /// `graphs.<key>` as it runs: with rows for every candidate where they go through it.
  const GraphSpec& graph(const std::string& key) const { return graphs_.at(key); }
  /// `graphs.<key>` for a session; nullptr if the bundle has none.
  std::unique_ptr<Graph> bind(const std::string& key, Tensors& tensors) const;

 private:
  std::shared_ptr<const Bundle> bundle_;
  RuntimeOptions options_;
  std::optional<SamplerSpec> sampler_, planner_sampler_;
  Vocabulary vocabulary_;
  std::map<std::string, GraphSpec> graphs_;
  std::unique_ptr<Engine> engine_;
  std::map<std::string, std::shared_ptr<const Model>> models_;
};

}  // namespace keystep
