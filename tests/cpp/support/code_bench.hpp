// A planner that writes by a script, its graphs without a network, and what it must say.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "policy/code_planner.hpp"
#include "written_bench.hpp"

namespace keystep::test {

inline const std::string kStateKey = "observation.state";

/// What is seen is the first value of the state: {number, 1 + row}, felt {number, -1}.
class FakeVision final : public Graph {
 public:
  FakeVision(const GraphSpec& spec, const Tensors& tensors, const bool& fails)
      : fails_(fails),
        state_(tensors.data<float>(spec, kStateKey)),
        seen_(*tensors.find(spec, "seen")),
        felt_(tensors.data<float>(spec, "felt")) {}

  Status run(int) noexcept override {
    if (fails_) return Status::engine_failure;
    auto* rows = static_cast<float*>(seen_.data);
    for (std::size_t i = 0; i < seen_.spec.elements() / 2; ++i) {
      rows[2 * i] = *state_;
      rows[2 * i + 1] = static_cast<float>(1 + i);
    }
    felt_[0] = *state_;
    felt_[1] = -1;
    return Status::ok;
  }
  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }

 private:
  const bool& fails_;
  const float* state_;
  Tensor& seen_;
  float* felt_;
  const std::string error_ = "vision: expected to run, got a fault";
};

/// Graphs and tensors of one session; the planner it makes follows `script`.
struct FakeGraphs {
  FakeGraphs(const CodePlannerSpec& spec, NextToken next, std::int64_t state = 3)
      : script{std::move(next)},
        embed(embed_spec(spec)),
        decode(decode_spec(spec)),
        vision{"vision.onnx",
               "",
               {{"plan." + kStateKey, DType::float32, {1, state}, kStateKey}},
               {{"plan.seen", DType::float32, {1, std::int64_t(spec.image_tokens), kVectorWidth}, "seen"},
                {"plan.felt", DType::float32, {1, 1, kVectorWidth}, "felt"}}},
        tensors(make_host_tensors()) {
    for (const GraphSpec* graph : {&vision, &embed, &decode}) tensors->add(*graph);
  }

  std::unique_ptr<CodePlanner> planner(const CodePlannerSpec& spec, const std::vector<FeatureSpec>& features,
                                       const DecodingSpec& decoding) {
    return std::make_unique<CodePlanner>(
        CodePlannerParts{spec,
                         std::make_shared<const CodeLanguage>(spec, decoding.constrained),
                         features,
                         vision,
                         std::make_unique<FakeVision>(vision, *tensors, vision_fails),
                         {embed, decode, std::make_unique<FakeEmbed>(spec, *tensors),
                          std::make_unique<FakeDecode>(spec, *tensors, script)},
                         *tensors},
        decoding);
  }

  FakeScript script;
  bool vision_fails = false;
  GraphSpec embed, decode, vision;
  std::unique_ptr<Tensors> tensors;
};

inline CodePlannerSpec code_spec(const MemoryLimits& limits, std::size_t context = kContext,
                                 const std::string& layout = kPrompt) {
  const WordTokenizer words(read_words(kWords));
  CodePlannerSpec spec = planner_spec(words);
  spec.sees = spec.feels = kStateKey;
  spec.sees_normalization = spec.feels_normalization = {"identity", {}, {}};
  spec.context = context;
  spec.words = read_words(kWords);
  spec.prompt = read_prompt(layout);
  spec.memory = limits;
  return spec;
}

inline const MemoryLimits kLimits = {.keysteps = 8, .keystep_bytes = 200};

/// A planner beside its slow reference.
struct CodePlannerBench {
  explicit CodePlannerBench(NextToken next, DecodingSpec decoding = {}, const MemoryLimits& limits = kLimits,
                            std::size_t context = kContext, const std::string& layout = kPrompt)
      : spec(code_spec(limits, context, layout)),
        features{{kStateKey,
                  "vector",
                  DType::float32,
                  {3},
                  1,
                  {"x", "y", "z"},
                  false,
                  {"mean_std", {9, 9, 9}, {9, 9, 9}}}},
        graphs(spec, std::move(next)),
        how(decoding),
        planner(graphs.planner(spec, features, decoding)),
        reference(layout, limits),
        prompt(context) {
    reset();
  }

  void reset(const std::string& about = "red cube") {
    task = about;
    planner->reset({}, {.text = task}, epoch());
    reference.memory.clear();
    step = 0;
  }
  Epoch epoch() const { return {count, 0}; }

  PlanReply ask(float number, bool request = false) {
    const std::array<float, 3> state = {number, 0, 0};
    if (request) planner->request_keystep();
    const auto view = seen(state);
    const Observation observation = view;
    const PlanRequest asked{observation, step++, false, epoch(), timing, scoring};
    planner->start(asked);
    return planner->poll(asked);
  }

  /// What greedy decoding says, without a cache; the memory is the reference's.
  std::string wanted(float number, bool request, bool& ended) {
    prompt.clear();
    const std::size_t room = spec.context - spec.reply_tokens - fixed(request);
    CHECK(reference.writer.append({.task = task, .request = request}, reference.memory, room, prompt));
    CHECK(prompt.size() + spec.reply_tokens <= spec.context);
    Tokens tokens;
    ended = slow_write(graphs.script.next, vectors_of(prompt.view(), number), tokens);
    const std::string last(reference.memory.last());
    if (how.way != "early_stop" || last.empty()) return as_text(reference.words, tokens);
    BoundedText commented(2 * last.size() + 8);
    CHECK(append_comment(last, commented));
    const std::string text = stopped(reference.words, tokens, std::string(commented.text()), how.early_stop);
    ended = ended || text == commented.text();
    return text;
  }

  std::size_t fixed(bool request) {
    CodeBench empty(kPrompt, spec.memory);
    PromptWriter writer(spec.prompt, reference.words, 2, 1 << 14);
    Bounded<Token> tokens(spec.context);
    CHECK(writer.append({.task = task, .request = request}, empty.memory, 0, tokens));
    return tokens.size();
  }

  CodePlannerSpec spec;
  std::vector<FeatureSpec> features;
  FakeGraphs graphs;
  DecodingSpec how;
  std::unique_ptr<CodePlanner> planner;
  CodeBench reference;
  Bounded<Token> prompt;
  std::string task;
  const std::atomic<std::uint64_t> count = 0;
  Histogram timing, scoring;
  std::int64_t step = 0;
};

}  // namespace keystep::test
