// Replies over a decoder whose cache is set back: all ways to write give the text of greedy decoding without
// a cache, whatever was expected, in long episodes with growing memory. A step allocates nothing.
#include <algorithm>
#include <random>

#include "count_allocations.hpp"
#include "written_bench.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kSteps = cases(3000, 400);
/// Some of the known replies and of nonsense, each with its end; the buffers hold them.
std::vector<Draft> random_drafts(const Script& script, Random& random, std::vector<Tokens>& buffers) {
  buffers.clear();
  for (std::size_t i = below(random, 4); i > 0; --i) {
    Tokens draft = script.replies[below(random, script.replies.size())];
    if (below(random, 4) == 0) draft.push_back(WordTokenizer::kSpecials + 'x');
    draft.push_back(WordTokenizer::kEnd);
    buffers.push_back(std::move(draft));
  }
  return {buffers.begin(), buffers.end()};
}

void every_way_writes_the_same(const std::string& layout, std::uint32_t seed) {
  Random random(seed);
  const WordTokenizer words(read_words(kWords));
  const Script script = random_script(words, random);
  WrittenBench bench(script, layout);
  std::vector<Tokens> buffers;
  int ended = 0, one_pass = 0, stops = 0;
  for (int step = 0; step < kSteps; ++step) {
    if (below(random, 100) == 0) bench.code.memory.clear(), bench.fake.decoder->forget();
    bench.ask(static_cast<float>(below(random, 5)), below(random, 6) == 0);
    if (below(random, 4) == 0) {
      const std::string commented = "# pick(red cube";
      CHECK(bench.write({}, commented) == Status::ok);
      CHECK(bench.writer.text() == stopped(words, bench.wanted, commented, WrittenBench::kStop));
      stops += bench.writer.text() == commented;
    } else {
      const std::vector<Draft> drafts = random_drafts(script, random, buffers);
      CHECK(bench.write(drafts) == Status::ok);
      bench.check();
      Tokens whole = bench.wanted;
      whole.push_back(WordTokenizer::kEnd);
      const bool expected = !buffers.empty() && buffers[0] == whole && bench.wanted_end;
      if (expected) CHECK(bench.fake.decoder->passes() == 1);
      one_pass += expected;
    }
    ended += bench.writer.ended();
    if (is_keystep(bench.writer.text())) CHECK(bench.code.memory.remember(bench.writer.text()));
  }
  CHECK(bench.fake.script.most_tokens_asked <= std::int64_t(kLimit));
  CHECK(ended > kSteps / 4 && ended < kSteps && one_pass > kSteps / 100 && stops > 0);
}

/// A call that goes on costs what is seen and the draft, whatever the memory.
void what_stays_is_not_computed_again() {
  const WordTokenizer words(read_words(kWords));
  WrittenBench bench(Script{{encoded(words, "# pick(red cube")}});
  Tokens draft = encoded(words, "# pick(red cube");
  draft.push_back(WordTokenizer::kEnd);
  const std::vector<Draft> drafts = {draft};
  for (int step = 0; step < 12; ++step) {
    bench.ask(static_cast<float>(step), false);
    CHECK(bench.write(drafts) == Status::ok);
    bench.check();
    const std::size_t tried = draft.size() - 1;  // behind the end nothing is asked
    const std::size_t live = 1 + bench.spec.image_tokens + tried;
    CHECK(bench.fake.decoder->passes() == 1);
    CHECK(bench.fake.decoder->computed() ==
          (step == 0 ? bench.prompt.size() + tried : live + 2 * (step % 3 == 1)));
    if (step % 3 == 0) CHECK(bench.code.memory.remember("cube"));  // two tokens
  }
}

/// Without an end: as many tokens as there may be, and it says so.
void endless_replies_end() {
  WrittenBench bench([](std::span<const Vector>) { return WordTokenizer::kFirstWord; });
  const Tokens draft(30, WordTokenizer::kFirstWord);
  for (const std::vector<Draft>& drafts : {std::vector<Draft>{}, std::vector<Draft>{draft}}) {
    bench.ask(1, false);
    CHECK(bench.write(drafts) == Status::ok);
    bench.check();
    CHECK(!bench.writer.ended() && bench.wanted.size() == kLimit);
    CHECK(bench.fake.decoder->passes() == (drafts.empty() ? int(kLimit) : 1));
  }
}

/// NaN, a graph that fails, an interrupt: the status says it, and the next reply is right.
void failures_leave_nothing_behind() {
  Random random(4);
  const WordTokenizer words(read_words(kWords));
  WrittenBench bench(random_script(words, random));
  for (std::int64_t step = 0; step < 60; ++step) {
    bench.ask(static_cast<float>(step % 4), false);
    const std::int64_t fault = bench.fake.script.runs + 1 + step % 2;
    bench.fake.script.faults = step % 3 == 0   ? FakeFaults{.nan_at_run = fault}
                               : step % 3 == 1 ? FakeFaults{.fail_at_run = fault}
                                               : FakeFaults{};
    const Status status = bench.write();
    const bool reached = bench.fake.script.runs >= fault;
    if (step % 3 == 0 && reached) {
      CHECK(status == Status::rejected_plan);
      CHECK(bench.fake.decoder->error() == "logits: expected finite numbers, got NaN or Inf");
    }
    if (step % 3 == 1 && reached) {
      CHECK(status == Status::engine_failure &&
            bench.fake.decoder->error() == "decode: expected to run, got a fault");
    }
    bench.fake.script.faults = {};
    const std::atomic<std::uint64_t> moved = 1;
    CHECK(bench.writer.write(bench.prompt.view(), {}, {}, 1, {moved, 0}) == Status::interrupted);
    CHECK(bench.write() == Status::ok);
    bench.check();
  }
  Bounded<Token> long_prompt(2 * kContext);
  while (long_prompt.append(WordTokenizer::kFirstWord)) {
  }
  const std::atomic<std::uint64_t> never = 0;
  CHECK(bench.writer.write(long_prompt.view(), {}, {}, 1, {never, 0}) == Status::engine_failure);
  CHECK(bench.write() == Status::ok);
  bench.check();
}

void a_step_allocates_nothing() {
  Random random(9);
  const WordTokenizer words(read_words(kWords));
  WrittenBench bench(random_script(words, random));
  Tokens draft = encoded(words, "# pick(red cube");
  draft.push_back(WordTokenizer::kEnd);
  const std::vector<Draft> drafts = {draft};
  BoundedText info(bench.code.memory.info_capacity());
  const Epoch epoch{bench.count, 0};
  const std::uint64_t before = allocations;
  bool good = true;
  for (int step = 0; step < 50; ++step) {
    bench.prompt.clear();
    good &= bench.code.writer.append({.task = "red cube", .request = step % 7 == 0}, bench.code.memory, 60,
                                     bench.prompt);
    bench.fake.look(static_cast<float>(step % 5));
    good &= bench.writer.write(bench.prompt.view(), drafts, step % 2 == 0 ? "# done()" : "", 6, epoch) ==
            Status::ok;
    if (is_keystep(bench.writer.text())) good &= bench.code.memory.remember(bench.writer.text());
    info.clear();
    good &= bench.code.memory.append_info(info);
  }
  CHECK(allocations == before && good && bench.code.memory.size() > 0);
}

}  // namespace

int main() {
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    every_way_writes_the_same(kPrompt, seed);
    every_way_writes_the_same(kPaperPrompt, seed);
  }
  what_stays_is_not_computed_again();
  endless_replies_end();
  failures_leave_nothing_behind();
  a_step_allocates_nothing();
  return result();
}
