// An asynchronous runtime whose chunks say what they are: row h of a chunk made of an observation with the
// values {index, ..} is {index + h, number of the engine's run}. Chunks are made when the test says so.
#pragma once

#include <functional>

#include "loop/runtime_internals.hpp"
#include "policy_fixture.hpp"

namespace keystep::test {

class IndexEngine final : public Engine {
 public:
  using Hook = std::function<Status(int)>;  ///< of a run, which has this number; what it returns

  explicit IndexEngine(Hook hook) : hook_(std::move(hook)) {}

  std::set<std::string> files(const GraphSpec&) override { return {}; }
  std::shared_ptr<const Model> load(const Files&, const GraphSpec& spec, const std::vector<int>&) override {
    return std::make_shared<Loaded>(spec, hook_);
  }
  std::unique_ptr<Tensors> tensors() const override { return std::make_unique<Memory>(); }
  std::string description() const override { return "index"; }
  std::vector<EngineChoice> choices() const override { return {}; }

 private:
  struct Memory final : Tensors {
    std::unique_ptr<Tensor> make(const TensorSpec& spec) override { return make_host_tensor(spec); }
  };

  struct Bound final : Graph {
    Bound(const GraphSpec& spec, Tensors& tensors, Hook hook)
        : state(tensors.data<float>(spec, "observation.state")),
          task(tensors.data<std::int64_t>(spec, "task")),
          actions(*tensors.find(spec, "actions")),
          hook_(std::move(hook)) {}
    Status run(int) noexcept override {
      const int number = ++runs;
      if (hook_) {
        if (const Status status = hook_(number); status != Status::ok) return status;
      }
      auto* values = static_cast<float*>(actions.data);
      for (std::size_t h = 0; h < actions.spec.elements() / 2; ++h) {
        values[2 * h] = *state + static_cast<float>(h);
        values[2 * h + 1] = *task > 1 ? static_cast<float>(*task) : static_cast<float>(number);
      }
      return Status::ok;
    }
    void terminate() noexcept override {}
    const std::string& error() const noexcept override { return message; }

    const float* state;
    const std::int64_t* task;
    Tensor& actions;
    const Hook hook_;
    int runs = 0;
    const std::string message = "the engine's own words";
  };

  struct Loaded final : Model {
    Loaded(const GraphSpec& of, Hook with) : spec(of), hook(std::move(with)) {}
    std::unique_ptr<Graph> bind(Tensors& tensors) const override {
      return std::make_unique<Bound>(spec, tensors, hook);
    }
    const GraphSpec spec;
    const Hook hook;
  };

  const Hook hook_;
};

/// One graph `act` with so many rows, everything in physical units.
inline std::string index_manifest(int horizon, int execute, const std::string& hold = "") {
  std::string manifest = one_step(hold.empty() ? kManifest : holding(hold));
  manifest = replaced(manifest, R"({"mode": "mean_std", "mean": [1, 2, 3], "std": [1, 2, 4]})",
                      R"({"mode": "identity"})");
  manifest =
      replaced(manifest, R"({"mode": "min_max", "min": [-2, 0], "max": [2, 10]})", R"({"mode": "identity"})");
  manifest = replaced(manifest, R"("min": [-100, -100], "max": [100, 100])",
                      R"("min": [-1000000, -1000000], "max": [1000000, 1000000])");
  manifest =
      replaced(manifest, R"("horizon": 4, "execute": 3)",
               R"("horizon": )" + std::to_string(horizon) + R"(, "execute": )" + std::to_string(execute));
  return replaced(manifest, "[1, 4, 2]", "[1, " + std::to_string(horizon) + ", 2]");
}

struct Stepped {
  Stepped(const std::string& manifest, const AsyncOptions& async, IndexEngine::Hook hook = {},
          const PlannerFactory& planner = &make_planner, RuntimeOptions options = {}) {
    write_bundle(folder.path(), manifest);
    options.mode = "async";
    options.async = async;
    runtime = RuntimeInternals::open(folder.path(), options, planner, [hook](const EngineOptions&) {
      return std::make_unique<IndexEngine>(hook);
    });
    action = runtime->make_action();
    reset();
  }

  /// Without threads: `makes_chunk` and `begins_chunk`, `ends_chunk` are what they would do.
  void reset() {
    runtime->reset({.task = "push", .seed = 7, .episode = 1});
    loop().stop();
    loop().start({7, 1, 0, 0}, false);
    actions = 0;
  }
  AsyncLoop& loop() { return RuntimeInternals::async(*runtime); }
  bool begins_chunk() { return loop().chunk_maker().begin(); }
  void ends_chunk() { loop().chunk_maker().finish(); }
  bool makes_chunk() {
    const bool begun = begins_chunk();
    if (begun) ends_chunk();
    return begun;
  }

  /// The observation says which action comes next. True: it was one of the policy.
  bool tick(Status wanted = Status::ok, std::int64_t stamp = -1) {
    const std::vector<float> state = {static_cast<float>(actions), 0, 0};
    status = runtime->tick(seen(state).at(stamp), action);
    CHECK(status == wanted);
    const bool acted = runtime->telemetry().actions != counted;
    counted = runtime->telemetry().actions;
    actions += acted;
    return acted;
  }
  std::uint64_t underruns(Cause cause) const {
    return runtime->telemetry().underruns[static_cast<std::size_t>(cause)];
  }
  bool rests() const { return action.values == runtime->bundle().action.hold; }

  TemporaryFolder folder;
  std::unique_ptr<Runtime> runtime;
  Action action;
  Status status = Status::ok;
  std::int64_t actions = 0;  // of the policy, in this episode
  std::uint64_t counted = 0;
};

}  // namespace keystep::test
