// What is our own between a key-step and the controller's answer to it: from the end of the decoder's pass
// that brought it to the first denoise step of the chunk that is made for it. Graphs take no time: the
// planner's follow a script in the language of a bundle, the controller's are the stub engine's. Lockstep and
// asynchronous.
//   key_step MANIFEST.json COUNT  ->  one JSON line
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bundle/code_read.hpp"
#include "bundle/manifest_node.hpp"
#include "code_bench.hpp"
#include "loop/runtime_internals.hpp"
#include "policy_fixture.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using namespace keystep;

constexpr int kStepsOfCall = 4, kCallsOfEpisode = 16;
const std::vector<std::string> kCalls = {
    "move3d(get_actor('red cube', actor_pos=(7, 21)))", "pick(get_actor('red cube'))",
    "place(get_actor('red cube'), pose_dict['A'])", "move3d(get_actor('blue cylinder'))"};

/// Another graph, and what is told when a run begins and ends.
class Watched final : public Graph {
 public:
  Watched(std::unique_ptr<Graph> graph, std::function<void()> begins, std::function<void()> ended)
      : graph_(std::move(graph)), begins_(std::move(begins)), ended_(std::move(ended)) {}

  Status run(int rows) noexcept override {
    begins_();
    const Status status = graph_->run(rows);
    ended_();
    return status;
  }
  void terminate() noexcept override { graph_->terminate(); }
  const std::string& error() const noexcept override { return graph_->error(); }
  std::int64_t length() const noexcept override { return graph_->length(); }
  void set_length(std::int64_t length) noexcept override { graph_->set_length(length); }

 private:
  const std::unique_ptr<Graph> graph_;
  const std::function<void()> begins_, ended_;
};

class WatchedModel final : public Model {
 public:
  WatchedModel(std::shared_ptr<const Model> model, std::function<void()> begins)
      : model_(std::move(model)), begins_(std::move(begins)) {}
  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return std::make_unique<Watched>(model_->bind(tensors), begins_, [] {});
  }

 private:
  const std::shared_ptr<const Model> model_;
  const std::function<void()> begins_;
};

/// The stub engine, which tells when a denoise step begins.
class WatchedEngine final : public Engine {
 public:
  WatchedEngine(std::unique_ptr<Engine> engine, std::function<void()> begins)
      : engine_(std::move(engine)), begins_(std::move(begins)) {}
  std::set<std::string> files(const GraphSpec& spec) override { return engine_->files(spec); }
  std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    auto model = engine_->load(files, spec, rows);
    if (spec.outputs.front().role != "model_output") return model;
    return std::make_shared<WatchedModel>(std::move(model), begins_);
  }
  std::unique_ptr<Tensors> tensors() const override { return engine_->tensors(); }
  std::string description() const override { return engine_->description(); }
  std::vector<EngineChoice> choices() const override { return engine_->choices(); }

 private:
  const std::unique_ptr<Engine> engine_;
  const std::function<void()> begins_;
};

/// The language and sizes of a bundle, over graphs that know nothing.
CodePlannerSpec spec_of(const char* manifest) {
  std::ifstream file(manifest);
  const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const nlohmann::json parsed = parse_json(json, "manifest.json");
  CodePlannerSpec spec = read_code_planner(ManifestNode(parsed, "")["planner"]);
  spec.width = test::kVectorWidth;
  spec.sees = spec.feels = test::kStateKey;
  spec.sees_normalization = spec.feels_normalization = {"identity", {}, {}};
  return spec;
}

/// Ticks; at every fourth one a new call begins, of which the planner knows nothing before.
class Bench {
 public:
  Bench(const char* manifest, const std::string& mode)
      : spec_(spec_of(manifest)),
        words_(spec_.words),
        graphs_(spec_, [this](std::span<const test::Vector> seen) { return next(seen); }) {
    for (const std::string& call : kCalls) {
      plain_.push_back(test::encoded(words_, call));
      commented_.push_back(test::encoded(words_, "# " + call));
    }
    test::write_bundle(folder_.path(), test::kManifest);
    RuntimeOptions options;
    options.engine.engine = "stub";
    options.mode = mode;
    runtime_ = RuntimeInternals::open(
        folder_.path(), options,
        [this](const keystep::Policy& policy, Tensors&) { return planner(policy.bundle()->observation); },
        [this](const EngineOptions& engine) -> std::unique_ptr<Engine> {
          return std::make_unique<WatchedEngine>(make_engine(engine), [this] { denoises(); });
        });
    action_ = runtime_->make_action();
  }

  /// Microseconds of each key-step.
  std::vector<double> times(int count) {
    std::vector<double> found;
    for (int call = 0; static_cast<int>(found.size()) < count; ++call) {
      if (call % kCallsOfEpisode == 0) runtime_->reset({.task = "push", .seed = 7, .episode = 1});
      call_ = static_cast<std::size_t>(call) % kCalls.size();
      answered_ = false;
      begins_ = true;
      while (!answered_) tick();
      found.push_back(std::chrono::duration<double, std::micro>(denoise_ - decoded_).count());
      for (int step = 1; step < kStepsOfCall; ++step) tick();
    }
    return found;
  }

 private:
  std::unique_ptr<CodePlanner> planner(const std::vector<FeatureSpec>& features) {
    auto decode = std::make_unique<Watched>(
        std::make_unique<test::FakeDecode>(spec_, *graphs_.tensors, graphs_.script), [] {},
        [this] { decoded(); });
    return std::make_unique<CodePlanner>(
        CodePlannerParts{
            spec_,
            std::make_shared<const CodeLanguage>(spec_, spec_.decoding.constrained),
            features,
            graphs_.vision,
            std::make_unique<test::FakeVision>(graphs_.vision, *graphs_.tensors, graphs_.vision_fails),
            {graphs_.embed, graphs_.decode, std::make_unique<test::FakeEmbed>(spec_, *graphs_.tensors),
             std::move(decode)},
            *graphs_.tensors},
        spec_.decoding);
  }

  void tick() {
    const std::array<float, 3> state = {1, 2.5f, 5.0f};
    const Status status = runtime_->tick(test::seen(state), action_);
    if (status != Status::ok) throw Error(describe(status));
    if (runtime_->options().mode == "async") std::this_thread::sleep_for(std::chrono::microseconds(200));
  }

  /// Of the script. The planner's thread.
  Token next(std::span<const test::Vector> seen) {
    std::size_t start = seen.size();  // of the reply: behind what is seen
    while (start > 0 && seen[start - 1][1] == 0) --start;
    const bool begins = begins_ && !waits_;
    const auto& reply = begins ? plain_[call_] : commented_[call_];
    const std::span<const test::Vector> written = seen.subspan(start);
    if (written.size() < reply.size()) return reply[written.size()];
    whole_ = begins && std::ranges::equal(reply, written, {}, {}, [](const test::Vector& vector) {
               return static_cast<Token>(vector[0]);
             });
    return WordTokenizer::kEnd;
  }

  /// A pass, of which the last brings the end of the key-step.
  void decoded() {
    if (!std::exchange(whole_, false)) return;
    decoded_ = Clock::now();
    waits_ = true;
  }

  /// Of the chunk for this key-step: the controller has been told of it. The controller's thread.
  void denoises() {
    if (!waits_ || RuntimeInternals::controller(*runtime_).instruction() != kCalls[call_]) return;
    denoise_ = Clock::now();
    begins_ = waits_ = false;
    answered_ = true;
  }

  CodePlannerSpec spec_;
  const WordTokenizer words_;
  test::FakeGraphs graphs_;
  std::vector<test::Tokens> plain_, commented_;
  test::TemporaryFolder folder_;
  std::atomic<std::size_t> call_ = 0;
  std::atomic<bool> begins_ = false, waits_ = false, answered_ = false;
  bool whole_ = false;
  Clock::time_point decoded_, denoise_;  // handed over by the flags
  Action action_;
  std::unique_ptr<Runtime> runtime_;
};

// Nearest rank; `values` is reordered.
double quantile(std::vector<double>& values, double q) {
  const auto rank = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<std::size_t>(rank)];
}

void print(const char* manifest, const char* mode, int count) {
  std::vector<double> times = Bench(manifest, mode).times(count);
  std::printf("\"%s\": {\"count\": %d, \"median_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f}", mode, count,
              quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1.0));
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? std::atoi(argv[2]) : 0;
  if (count < 1) return std::fprintf(stderr, "usage: key_step MANIFEST.json COUNT (at least 1)\n"), 2;
  try {
    std::printf("{");
    print(argv[1], "lockstep", count);
    std::printf(", ");
    print(argv[1], "async", count);
    std::printf("}\n");
    return 0;
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
