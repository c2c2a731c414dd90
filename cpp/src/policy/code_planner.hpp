// Family code (From Code to Action): a language model is shown what is seen and its own key-steps, and writes
// the call that runs now: plainly where it begins, commented out while it goes on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "code/code_language.hpp"
#include "code/code_sight.hpp"
#include "code/event_ring.hpp"
#include "code/reply_writer.hpp"
#include "policy/planner.hpp"

namespace keystep {

/// What a planner is made of; all but the graphs and the language outlives it.
struct CodePlannerParts {
  const CodePlannerSpec& spec;
  std::shared_ptr<const CodeLanguage> language;  ///< of `spec`; of all its sessions
  const std::vector<FeatureSpec>& observation;   ///< of whoever hands over observations
  const GraphSpec& vision_spec;
  std::unique_ptr<Graph> vision;
  DecoderGraphs decoder;
  const Tensors& tensors;
};

/// One answer. Its text is valid until the next.
struct CodeAnswer {
  std::string_view text{};  ///< as it was written; not asked: the last key-step commented out
  bool key_step = false;
  bool asked = false;  ///< false: this step is one of those between two questions, and nothing was computed
  bool ended = false;
  std::size_t tokens = 0;
  int passes = 0;  ///< of the decoder
};

/// Nothing is allocated after construction but by `check`, `reset` and for messages of failures. Of one
/// session; what looks on is called by the thread that asks.
class CodePlanner final : public Planner {
 public:
  static constexpr std::size_t kMostTaskBytes = 4096;
  static constexpr std::size_t kEvents = 128;

  static std::size_t most_reply_bytes(const CodePlannerSpec& spec) noexcept;

  /// Whether replies are constrained says the language. Throws BundleError.
  explicit CodePlanner(CodePlannerParts parts, const DecodingSpec& decoding);

  /// The task is one line of UTF-8 with room in the context.
  void check(const EpisodeContext& context, const Aim& aim) const override;
  void reset(const EpisodeContext& context, const Aim& aim, const Epoch& epoch) override;
  /// The next question is for a key-step, and comes at the next step.
  void request_keystep() noexcept { request_ = true; }
  /// Asks at every `every` steps; at each before the first key-step, after a failure, for a new plan. A
  /// request that failed is gone.
  void start(const PlanRequest& request) noexcept override;
  /// Writes inside. A key-step is a new goal; while a call goes on the goal stays. A failure
  /// (`rejected_plan`: NaN, no end, no room) leaves the memory as it was.
  PlanReply poll(const PlanRequest& request) noexcept override;
  void abort() noexcept override { asked_ = false; }  ///< of nothing: no reply outlives its step
  void terminate() noexcept override;
  bool computes(std::int64_t consumed, bool replan) const noexcept override;
  const std::string& error() const noexcept override { return error_; }
  Goal goal() const noexcept override;
  const char* lacks_goal() const noexcept override;
  std::size_t text_capacity() const noexcept override { return spec_.memory.keystep_bytes; }
  Status can_predict(std::size_t values) noexcept override;

  /// While idle: decodes the next key-step from what was seen last, as a draft that the next questions
  /// verify. Once for each key-step; does nothing before the first question, and where no drafts are used. A
  /// failure is no event: the next question is answered without a draft.
  Status prepare(const Epoch& epoch) noexcept;

  const CodeAnswer& answer() const noexcept { return answer_; }  ///< of the last step that was ok
  const CodeMemory& memory() const noexcept { return memory_; }
  std::string_view code() const noexcept { return memory_.last(); }  ///< the call that runs; "": none yet
  std::string_view info() const noexcept { return info_.text(); }    ///< Source: algorithm 1
  std::vector<CodeEvent> events() const { return events_.all(); }
  const CodeCounts& counts() const noexcept { return counts_; }
  void reset_counts() noexcept { counts_ = {}; }

 private:
  enum class Way { greedy, early_stop, draft };

  std::size_t prompt_tokens(std::string_view task, bool request) const;
  Status write_reply(const PlanRequest& request, bool keystep) noexcept;
  Status write_prompt(bool keystep) noexcept;
  Status written(Status status) noexcept;
  Status settle(std::int64_t step) noexcept;
  Status remember(std::int64_t step) noexcept;
  void note_forgotten(std::int64_t step) noexcept;
  Status note_failure(Status status, std::int64_t step) noexcept;
  void note(CodeEventKind kind, std::int64_t step, std::string_view text = {}) noexcept;
  Status refuse(const char* field, std::size_t wanted, const char* what) noexcept;

  const CodePlannerSpec& spec_;
  const Way way_;
  const std::size_t early_stop_;
  const int every_;
  const std::shared_ptr<const CodeLanguage> language_;
  const WordTokenizer& words_;
  PromptWriter prompts_;
  CodeMemory memory_;
  CodeSight sight_;
  Decoder decoder_;
  ReplyWriter writer_;
  EventRing events_;
  CodeCounts counts_;

  // The episode.
  std::string task_;
  std::array<std::size_t, 2> room_{};  // for the memory in a prompt; with a request
  std::int64_t next_ = 0;              // the step of the next question
  std::uint64_t forgotten_before_ = 0;
  std::size_t gone_ = 0;                    // key-steps without room, so far
  BoundedText commented_, info_;            // of the last key-step, of the memory
  Bounded<Token> going_on_, next_keystep_;  // drafts, each with its end; empty: none
  bool prepared_ = false;                   // for the memory of now

  // The step.
  Bounded<Token> prompt_;
  BoundedText text_;
  CodeAnswer answer_;
  CodeEventKind fault_ = CodeEventKind::failed;  // of a reply that is refused
  bool request_ = false, asked_ = false, has_seen_ = false;
  std::string error_;
};

}  // namespace keystep
