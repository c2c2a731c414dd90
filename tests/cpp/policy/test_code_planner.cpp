// A planner that writes code, over graphs without a network: replies, memory and key-steps are those of
// greedy decoding without a cache, whatever is drafted and prepared. What fails leaves nothing behind.
#include <algorithm>

#include "code_bench.hpp"
#include "count_allocations.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kSteps = cases(1500, 200);

Script script_of(std::uint32_t seed) {
  Random random(seed);
  return random_script(WordTokenizer(read_words(kWords)), random);
}

std::vector<std::string> memory_of(const CodeMemory& memory) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < memory.size(); ++i) all.emplace_back(memory[i]);
  return all;
}

/// Long episodes with requests, idle times and new episodes, step by step beside the reference.
void episodes_are_the_reference_s(const DecodingSpec& how, std::uint32_t seed, const std::string& layout) {
  Random random(seed);
  CodePlannerBench bench(script_of(seed), how, kLimits, kContext, layout);
  std::int64_t next = 0;
  std::uint64_t failures = 0, skipped = 0;
  for (int i = 0; i < kSteps; ++i) {
    if (below(random, 60) == 0) bench.reset(below(random, 2) == 0 ? "red cube" : "cubes"), next = 0;
    if (below(random, 3) == 0) CHECK(bench.planner->prepare(bench.epoch()) == Status::ok);
    const auto number = static_cast<float>(below(random, 4));
    const bool request = below(random, 9) == 0;
    const std::int64_t step = bench.step;
    const PlanReply reply = bench.ask(number, request);
    const CodeAnswer& answer = bench.planner->answer();
    if (!request && step < next && bench.reference.memory.size() != 0) {
      CHECK(reply.status == Status::ok && !answer.asked && !reply.planned && !answer.key_step);
      ++skipped;
      continue;
    }
    bool ended = false;
    const std::string wanted = bench.wanted(number, request, ended);
    if (!ended) {
      CHECK(reply.status == Status::rejected_plan);
      CHECK(bench.planner->error() == "reply: expected at most 12 tokens with an end, got more");
      const CodeEvent told = bench.planner->events().back();
      CHECK(told.kind == CodeEventKind::endless && told.step == step && told.text == wanted);
      ++failures;
      next = step;
    } else {
      CHECK(reply.status == Status::ok && reply.planned && answer.asked && answer.ended);
      CHECK(answer.text == wanted && answer.key_step == is_keystep(wanted));
      CHECK(reply.key_step == answer.key_step);
      if (answer.key_step) {
        CHECK(bench.reference.memory.remember(wanted));
        CHECK(std::get<InstructionGoal>(reply.goal).text == wanted && bench.planner->code() == wanted);
      }
      next = step + how.every;
    }
    CHECK(memory_of(bench.planner->memory()) == memory_of(bench.reference.memory));
    BoundedText info(bench.reference.memory.info_capacity());
    CHECK(bench.reference.memory.append_info(info) && info.text() == bench.planner->info());
  }
  const CodeCounts& counts = bench.planner->counts();
  CHECK(counts.steps == std::uint64_t(kSteps) && counts.endless == failures && failures > 0);
  CHECK(counts.replies + failures + skipped == counts.steps && (skipped > 0) == (how.every > 1));
  CHECK(counts.key_steps > std::uint64_t(kSteps) / 30 && (counts.prepared > 0) == (how.way == "draft"));
}

/// A call that goes on is one pass, and so is a key-step that was prepared but for finding that it is one.
void drafts_save_passes() {
  const WordTokenizer words(read_words(kWords));
  const std::string call = "pick(red cube";
  const auto next = [words, call](std::span<const Vector> seen) -> Token {
    const bool asked = std::ranges::any_of(seen, [](const Vector& v) {
      return v[1] == 0 && v[0] == float(encoded(WordTokenizer(read_words(kWords)), "P")[0]);
    });
    std::size_t start = seen.size();
    while (start > 0 && seen[start - 1][1] == 0 && seen[start - 1][0] != float(Script::kRequestEnd)) --start;
    const float number = std::ranges::find_if(seen, [](const Vector& v) { return v[1] == 1; })->at(0);
    const Tokens reply = encoded(words, asked || number == 1 ? call : "# " + call);
    const std::size_t written = seen.size() - start;
    return written < reply.size() ? reply[written] : WordTokenizer::kEnd;
  };
  CodePlannerBench bench(next);
  CHECK(bench.planner->prepare(bench.epoch()) == Status::ok);  // nothing was seen
  CHECK(bench.ask(1).key_step && bench.planner->answer().passes > 2);
  CHECK(!bench.ask(0).key_step && bench.planner->answer().passes == 1);
  CHECK(bench.planner->prepare(bench.epoch()) == Status::ok);
  const std::int64_t runs = bench.graphs.script.runs;
  CHECK(bench.planner->prepare(bench.epoch()) == Status::ok &&
        bench.graphs.script.runs == runs);  // it is there
  CHECK(!bench.ask(0).key_step && bench.planner->answer().passes == 1);
  CHECK(bench.ask(1).key_step && bench.planner->answer().passes == 2);
  CHECK(bench.planner->code() == call && bench.planner->memory().size() == 2);
  const std::vector<CodeEvent> events = bench.planner->events();
  CHECK(events.size() == 2 && events[1].kind == CodeEventKind::key_step && events[1].step == 3);
  CHECK(events[1].text == call);
}

/// NaN, a graph that fails, an interrupt, an observation that is none: the memory stays, the next step is
/// asked and right.
void failures_leave_the_memory() {
  CodePlannerBench bench(script_of(5));
  int nan = 0, failed = 0;
  for (int i = 0; i < 60; ++i) {
    const std::vector<std::string> before = memory_of(bench.planner->memory());
    const std::int64_t fault = bench.graphs.script.runs + 1 + i % 2;
    bench.graphs.script.faults = i % 3 == 0   ? FakeFaults{.nan_at_run = fault}
                                 : i % 3 == 1 ? FakeFaults{.fail_at_run = fault}
                                              : FakeFaults{};
    bench.graphs.vision_fails = i % 6 == 2;
    const float number = i % 6 == 5 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(i % 4);
    const PlanReply reply = bench.ask(number);
    if (i % 3 == 2) {
      CHECK(reply.status == (i % 6 == 2 ? Status::engine_failure : Status::bad_observation));
      CHECK(bench.planner->error() == (i % 6 == 2
                                           ? "vision: expected to run, got a fault"
                                           : "observation.state[0] (x): expected a finite value, got nan"));
    }
    nan +=
        i % 3 == 0 && reply.status == Status::rejected_plan && bench.planner->error().starts_with("logits: ");
    failed += i % 3 == 1 && reply.status == Status::engine_failure;
    if (reply.status != Status::ok) CHECK(memory_of(bench.planner->memory()) == before);
    bench.graphs.script.faults = {};
    bench.graphs.vision_fails = false;
    bench.reference.memory.clear();
    for (const std::string& code : memory_of(bench.planner->memory()))
      CHECK(bench.reference.memory.remember(code));
    bool ended = false;
    const std::string wanted = bench.wanted(2, false, ended);
    CHECK((bench.ask(2).status == Status::ok) == ended);
    if (ended) CHECK(bench.planner->answer().text == wanted);
  }
  CHECK(nan > 5 && failed > 5);
  const CodeCounts& counts = bench.planner->counts();
  CHECK(counts.not_finite == std::uint64_t(nan) && counts.failed == std::uint64_t(failed) + 10);
  CHECK(bench.planner->events().size() <= CodePlanner::kEvents);
}

NextToken always(const std::string& text) {
  return [reply = encoded(WordTokenizer(read_words(kWords)), text)](std::span<const Vector> seen) -> Token {
    std::size_t written = 0;
    while (seen[seen.size() - 1 - written][1] == 0 &&
           seen[seen.size() - 1 - written][0] != float(Script::kRequestEnd))
      ++written;
    return written < reply.size() ? reply[written] : WordTokenizer::kEnd;
  };
}

/// Between two questions a failure is tried again at the next step, a blind camera is told, and what
/// `prepare` fails of is the decoder's own message.
void failures_between_questions() {
  CodePlannerBench bench(always("done()"), {.way = "draft", .every = 5});
  CHECK(bench.ask(1).key_step);
  CHECK(bench.ask(1).status == Status::ok && !bench.planner->answer().asked);
  CHECK(bench.ask(std::numeric_limits<float>::quiet_NaN()).status == Status::bad_observation);
  bench.graphs.script.faults = {.fail_at_run = bench.graphs.script.runs + 1};
  CHECK(bench.ask(1, true).status == Status::engine_failure);
  bench.graphs.script.faults = {};
  CHECK(bench.ask(1).status == Status::ok && bench.planner->answer().asked);
  CHECK(bench.ask(1).status == Status::ok && !bench.planner->answer().asked);
  CHECK(bench.ask(std::numeric_limits<float>::quiet_NaN()).status == Status::bad_observation);
  const std::string before = bench.planner->error();
  bench.graphs.script.faults = {.fail_at_run = bench.graphs.script.runs + 1};
  CHECK(bench.planner->prepare(bench.epoch()) == Status::engine_failure);
  CHECK(!bench.planner->error().empty() && bench.planner->error() != before);
}

/// Memory without room: forgotten and told, or refused, and then nothing changes.
void memory_overflows_by_the_policy() {
  for (const bool forgets : {true, false}) {
    const MemoryLimits limits{.keysteps = 3,
                              .keystep_bytes = 200,
                              .overflow = forgets ? MemoryOverflow::forget_oldest : MemoryOverflow::refuse};
    CodePlannerBench bench(always("done()"), {}, limits);
    for (int i = 0; i < 5; ++i) {
      const Status status = bench.ask(1).status;
      CHECK(status == (forgets || i < 3 ? Status::ok : Status::rejected_plan));
    }
    CHECK(bench.planner->memory().size() == 3);
    const CodeCounts& counts = bench.planner->counts();
    CHECK(counts.forgotten == (forgets ? 1 : 0) || counts.forgotten == (forgets ? 2 : 0));
    CHECK(counts.refused == (forgets ? 0 : 2));
    if (!forgets) CHECK(bench.planner->error() == "memory: expected at most 3 key-steps, got more");
  }
  const MemoryLimits refuses{.keysteps = 50, .keystep_bytes = 200, .overflow = MemoryOverflow::refuse};
  CodePlannerBench bench(always("done()"), {}, refuses, 64);
  int refused = 0;
  for (int i = 0; i < 40; ++i) refused += bench.ask(1).status == Status::rejected_plan;
  CHECK(refused > 0 && bench.planner->error().starts_with("memory: expected at most ") &&
        bench.planner->error().ends_with(" tokens of key-steps in a prompt, got more"));
  CHECK(bench.planner->memory().size() + static_cast<std::size_t>(refused) == 40);
  CodePlannerBench forgetful(always("done()"), {}, {.keysteps = 50, .keystep_bytes = 200}, 64);
  for (int i = 0; i < 40; ++i) CHECK(forgetful.ask(1).status == Status::ok);
  CHECK(forgetful.planner->memory().size() == 40 && forgetful.planner->counts().forgotten > 10);
}

std::string refusal(const CodePlannerBench& bench, const std::string& task, EpisodeContext context = {}) {
  try {
    bench.planner->check(context, {.text = task});
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

void tasks_that_cannot_be_are_refused() {
  CodePlannerBench bench(script_of(2));
  CHECK(refusal(bench, "red cube").empty() && refusal(bench, "\xe8\xb5\xa4\xe3\x81\x84").empty());
  CHECK(refusal(bench, "") == "task: expected a task or an instruction, got none");
  CHECK(refusal(bench, "red\ncube").starts_with("task: expected one line of text, got "));
  CHECK(refusal(bench, "red \xff") == "task: expected UTF-8, got the byte 0xFF at 4");
  CHECK(refusal(bench, std::string(5000, 'x')) == "task: expected at most 4096 bytes, got 5000");
  CHECK(refusal(bench, std::string(200, 'x'))
            .starts_with("task: expected a prompt of at most 148 tokens (context - reply_tokens), got 2"));
  CHECK(refusal(bench, "red", {.guidance = 1.0}).starts_with("guidance: "));
  CHECK(bench.planner->lacks_goal() != nullptr && std::holds_alternative<NoGoal>(bench.planner->goal()));
  CHECK(bench.planner->can_predict(3) == Status::bad_observation);
}

void a_step_allocates_nothing() {
  for (const char* way : {"greedy", "early_stop", "draft"}) {
    CodePlannerBench bench(script_of(9), {.way = way, .every = 2});
    bench.ask(1);
    std::uint64_t counted = 0;
    for (int i = 0; i < 80; ++i) {
      const std::uint64_t before = allocations;
      bench.ask(static_cast<float>(i % 5), i % 7 == 0);
      if (i % 3 == 0) (void)bench.planner->prepare(bench.epoch());
      counted += allocations - before;
    }
    CHECK(counted == 0 && bench.planner->counts().key_steps > 2);
  }
}

}  // namespace

int main() {
  for (const char* way : {"greedy", "early_stop", "draft"}) {
    episodes_are_the_reference_s({.way = way, .early_stop = 6}, 1, kPrompt);
    episodes_are_the_reference_s({.way = way, .early_stop = 6, .every = 3}, 2, kPrompt);
  }
  drafts_save_passes();
  failures_leave_the_memory();
  failures_between_questions();
  memory_overflows_by_the_policy();
  tasks_that_cannot_be_are_refused();
  a_step_allocates_nothing();
  return result();
}
