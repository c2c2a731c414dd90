#include "policy/code_planner.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "keystep/code_text.hpp"
#include "loop/trace_labels.hpp"

namespace keystep {
namespace {

constexpr std::size_t kMessageBytes = 256;
constexpr std::size_t kMostSections = 16;  // each may have a token more than bytes
constexpr std::size_t kMostCommented = 3;  // bytes for one of code: "# " before an empty line

std::size_t template_bytes(const PromptSpec& prompt) {
  std::size_t bytes = 0;
  for (const auto& [name, text] : prompt.templates) bytes += text.size();
  return bytes;
}

std::size_t section_bytes(const CodePlannerSpec& spec) {
  return std::max(CodePlanner::kMostTaskBytes, spec.memory.keystep_bytes) + template_bytes(spec.prompt);
}

}  // namespace

/// One that goes on is longer by its comment marks.
std::size_t CodePlanner::most_reply_bytes(const CodePlannerSpec& spec) noexcept {
  return kMostCommented * spec.memory.keystep_bytes + kMostCommented;
}

CodePlanner::CodePlanner(CodePlannerParts parts, const DecodingSpec& decoding)
    : spec_(parts.spec),
      way_(decoding.way == "draft"        ? Way::draft
           : decoding.way == "early_stop" ? Way::early_stop
                                          : Way::greedy),
      early_stop_(decoding.early_stop),
      every_(decoding.every),
      language_(std::move(parts.language)),
      words_(language_->words),
      prompts_(spec_.prompt, words_, static_cast<int>(spec_.image_tokens), section_bytes(spec_)),
      memory_(prompts_, spec_.memory),
      sight_(spec_, parts.observation, parts.vision_spec, std::move(parts.vision), parts.tensors),
      decoder_(spec_, std::move(parts.decoder), sight_.seen(), parts.tensors),
      writer_(spec_, words_, decoder_, language_->constraint ? &*language_->constraint : nullptr),
      events_(kEvents, spec_.memory.keystep_bytes),
      commented_(most_reply_bytes(spec_)),
      info_(memory_.info_capacity()),
      going_on_(WordTokenizer::most_tokens(most_reply_bytes(spec_)) + 1),
      next_keystep_(spec_.reply_tokens + 1),
      prompt_(spec_.context),
      text_(most_reply_bytes(spec_)) {
  error_.reserve(kMessageBytes);
}

// ---- the episode

/// Without the memory. Apart from what a step writes, so that nothing of the episode changes.
std::size_t CodePlanner::prompt_tokens(std::string_view task, bool request) const {
  PromptWriter prompts(spec_.prompt, words_, static_cast<int>(spec_.image_tokens), section_bytes(spec_));
  CodeMemory none(prompts, {.keysteps = 1, .keystep_bytes = 1});
  Bounded<Token> tokens(section_bytes(spec_) + spec_.image_tokens + kMostSections);
  const Question asked{.task = task, .request = request, .proprioception = !spec_.feels.empty()};
  return prompts.append(asked, none, 0, tokens) ? tokens.size() : tokens.capacity() + spec_.context;
}

void CodePlanner::check(const EpisodeContext& context, const Aim& aim) const {
  if (context.guidance) {
    throw ArgumentError(expected("guidance", "none (the planner writes)", std::to_string(*context.guidance)));
  }
  if (!context.subgoals.empty()) {
    throw ArgumentError(
        expected("subgoals", "none (the planner writes)", std::to_string(context.subgoals.size())));
  }
  check_text(aim.text, kMostTaskBytes, "task");
  check_line("task", aim.text);
  const std::size_t most = spec_.context - spec_.reply_tokens, tokens = prompt_tokens(aim.text, true);
  if (tokens <= most) return;
  throw ArgumentError(
      expected("task", "a prompt of at most " + std::to_string(most) + " tokens (context - reply_tokens)",
               std::to_string(tokens)));
}

void CodePlanner::reset(const EpisodeContext&, const Aim& aim, const Epoch&) {
  const std::size_t most = spec_.context - spec_.reply_tokens;
  std::string task(aim.text);
  room_ = {most - prompt_tokens(task, false), most - prompt_tokens(task, true)};
  task_ = std::move(task);  // from here on nothing fails
  memory_.clear();
  decoder_.forget();
  events_.clear();
  commented_.clear();
  info_.clear();
  going_on_.clear();
  next_keystep_.clear();
  answer_ = {};
  next_ = 0;
  gone_ = 0;
  forgotten_before_ = memory_.forgotten();
  prepared_ = request_ = asked_ = has_seen_ = false;
}

Goal CodePlanner::goal() const noexcept {
  if (memory_.size() == 0) return NoGoal{};
  return InstructionGoal{.text = code()};
}

const char* CodePlanner::lacks_goal() const noexcept {
  return memory_.size() == 0 ? "code: expected a key-step (written at a tick), got none" : nullptr;
}

Status CodePlanner::can_predict(std::size_t) noexcept {
  error_ = "plan: expected a planner that imagines, got one that writes";  // there is room for it
  return Status::bad_observation;
}

// ---- a step

bool CodePlanner::computes(std::int64_t consumed, bool replan) const noexcept {
  return replan || request_ || memory_.size() == 0 || consumed >= next_;
}

void CodePlanner::start(const PlanRequest& request) noexcept {
  asked_ = computes(request.consumed, request.replan);
}

PlanReply CodePlanner::poll(const PlanRequest& request) noexcept {
  ++counts_.steps;
  if (!std::exchange(asked_, false)) {
    if (const Status status = sight_.check(request.observation, error_); status != Status::ok)
      return {.status = note_failure(status, request.consumed)};
    answer_ = {.text = commented_.text(), .ended = true};
    return {};
  }
  const bool keystep = std::exchange(request_, false);
  const StageTimer timer(request.timing, &label(Stage::plan));
  if (const Status status = write_reply(request, keystep); status != Status::ok) {
    next_ = request.consumed;  // and the step after is asked in any case
    return {.status = note_failure(status, request.consumed)};
  }
  next_ = request.consumed + every_;
  if (!answer_.key_step) return {.planned = true};
  return {.planned = true, .key_step = true, .stale = Stale::everything, .goal = goal()};
}

Status CodePlanner::write_reply(const PlanRequest& request, bool keystep) noexcept {
  fault_ = CodeEventKind::failed;
  answer_ = {};
  has_seen_ = false;
  if (const Status status = sight_.look(request.observation, request.epoch, error_); status != Status::ok)
    return status;
  has_seen_ = true;
  decoder_.look();
  if (const Status status = write_prompt(keystep); status != Status::ok) return status;
  note_forgotten(request.consumed);
  const std::array<Draft, 2> drafts = {going_on_.view(), next_keystep_.view()};
  const bool drafted = way_ == Way::draft;
  const std::string_view stop = way_ == Way::early_stop ? commented_.text() : std::string_view();
  fault_ = CodeEventKind::not_finite;
  const Status status =
      writer_.write(prompt_.view(), drafted ? std::span<const Draft>(drafts) : std::span<const Draft>(), stop,
                    early_stop_, request.epoch);
  return status == Status::ok ? settle(request.consumed) : written(status);
}

/// What the decoder says of a failure of its own.
Status CodePlanner::written(Status status) noexcept {
  if (status != Status::rejected_plan && status != Status::engine_failure) return status;
  try {
    error_ = decoder_.error();
  } catch (...) {
    error_.clear();  // out of memory: the status still tells
  }
  return status;
}

Status CodePlanner::write_prompt(bool keystep) noexcept {
  prompt_.clear();
  const std::size_t room = room_[keystep];
  const Question asked{.task = task_, .request = keystep, .proprioception = !spec_.feels.empty()};
  if (prompts_.append(asked, memory_, room, prompt_)) return Status::ok;
  fault_ = CodeEventKind::refused;
  return refuse("memory", room, "tokens of key-steps in a prompt");
}

/// What was written is an answer only with its end.
Status CodePlanner::settle(std::int64_t step) noexcept {
  if (!writer_.ended()) {
    fault_ = CodeEventKind::endless;
    return refuse("reply", spec_.reply_tokens, "tokens with an end");
  }
  text_.clear();
  if (!text_.append(writer_.text())) return Status::engine_failure;  // it has room for the longest
  const bool keystep = is_keystep(text_.text());
  const std::size_t tokens = writer_.tokens().size();
  const int passes = decoder_.passes();
  if (keystep) {
    if (const Status status = remember(step); status != Status::ok) return status;
  }
  answer_ = {.text = text_.text(),
             .key_step = keystep,
             .asked = true,
             .ended = true,
             .tokens = tokens,
             .passes = passes};
  ++counts_.replies;
  counts_.tokens += tokens;
  counts_.passes += static_cast<std::uint64_t>(passes);
  return Status::ok;
}

/// The reply is a key-step: what follows from it.
Status CodePlanner::remember(std::int64_t step) noexcept {
  if (!memory_.remember(text_.text())) {
    fault_ = CodeEventKind::refused;
    return refuse("memory", spec_.memory.keysteps, "key-steps");
  }
  commented_.clear();
  info_.clear();
  going_on_.clear();
  next_keystep_.clear();
  prepared_ = false;
  const bool fits = append_comment(text_.text(), commented_) && memory_.append_info(info_) &&
                    words_.encode(commented_.text(), going_on_) && going_on_.append(WordTokenizer::kEnd);
  if (!fits) going_on_.clear();  // no draft: greedy decoding is as good
  note(CodeEventKind::key_step, step, text_.text());
  ++counts_.key_steps;
  return Status::ok;
}

/// While the next key-step is far: its text from what is seen now.
Status CodePlanner::prepare(const Epoch& epoch) noexcept {
  if (way_ != Way::draft || !has_seen_ || prepared_) return Status::ok;
  const Span span(kPrepareLabel);
  if (const Status status = write_prompt(true); status != Status::ok) return status;
  if (const Status status = writer_.write(prompt_.view(), {}, {}, 1, epoch); status != Status::ok)
    return written(status);
  prepared_ = true;
  next_keystep_.clear();
  if (!writer_.ended() || !is_keystep(writer_.text())) return Status::ok;  // nothing to expect
  ++counts_.prepared;
  if (!next_keystep_.append(writer_.tokens()) || !next_keystep_.append(WordTokenizer::kEnd))
    next_keystep_.clear();
  return Status::ok;
}

void CodePlanner::terminate() noexcept {
  sight_.terminate();
  decoder_.terminate();
}

// ---- what went wrong

/// Key-steps that the memory dropped, and those that the prompt just written has no room for.
void CodePlanner::note_forgotten(std::int64_t step) noexcept {
  const auto dropped = static_cast<std::size_t>(memory_.forgotten() - forgotten_before_);
  const std::size_t gone = std::max(gone_, dropped + memory_.size() - memory_.shown());
  if (gone == gone_) return;
  counts_.forgotten += gone - std::exchange(gone_, gone);
  note(CodeEventKind::forgotten, step);
}

Status CodePlanner::note_failure(Status status, std::int64_t step) noexcept {
  if (status != Status::rejected_plan && status != Status::engine_failure) return status;
  const CodeEventKind kind = status == Status::engine_failure ? CodeEventKind::failed : fault_;
  note(kind, step, kind == CodeEventKind::endless ? writer_.text() : std::string_view());
  counts_.refused += kind == CodeEventKind::refused;
  counts_.endless += kind == CodeEventKind::endless;
  counts_.not_finite += kind == CodeEventKind::not_finite;
  counts_.failed += kind == CodeEventKind::failed;
  return status;
}

void CodePlanner::note(CodeEventKind kind, std::int64_t step, std::string_view text) noexcept {
  counts_.events_lost += events_.add(kind, step, text);
}

/// "memory: expected at most 100 tokens of key-steps in a prompt, got more", without allocating.
Status CodePlanner::refuse(const char* field, std::size_t wanted, const char* what) noexcept {
  std::array<char, kMessageBytes> message{};
  std::snprintf(message.data(), message.size(), "%s: expected at most %zu %s, got more", field, wanted, what);
  error_ = message.data();
  return Status::rejected_plan;
}

}  // namespace keystep
