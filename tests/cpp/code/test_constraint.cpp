// Constrained replies: whatever the logits, they end in code within their tokens, drafted or not; a step
// allocates nothing. What code is, tests/parity/test_constraint.py compares with Python.
#include <algorithm>
#include <random>

#include "code/constraint.hpp"
#include "count_allocations.hpp"
#include "keystep/status.hpp"
#include "written_bench.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kWalks = cases(2000, 200), kSteps = cases(1500, 200), kDamaged = cases(3000, 300);

const std::string kApi = R"json([
  {"name": "get_actor", "result": "actor", "parameters": [
    {"name": "name", "types": ["string"], "required": true, "choices": []},
    {"name": "actor_pos", "types": ["position"], "required": false, "choices": []}]},
  {"name": "get_pose", "result": "pose", "parameters": [
    {"name": "actor", "types": ["actor"], "required": true, "choices": []}]},
  {"name": "turn", "result": "pose", "parameters": [
    {"name": "pose", "types": ["pose"], "required": true, "choices": []},
    {"name": "angle", "types": ["number"], "required": true, "choices": []},
    {"name": "way", "types": ["string"], "required": false, "choices": ["left", "leftmost"]}]},
  {"name": "pick", "result": null, "parameters": [
    {"name": "actor", "types": ["actor", "pose"], "required": true, "choices": []},
    {"name": "push", "types": ["bool"], "required": false, "choices": []}]},
  {"name": "topple", "result": null, "parameters": [
    {"name": "actors", "types": ["list of actors"], "required": true, "choices": []}]},
  {"name": "done", "result": null, "parameters": []}])json";

struct Constrained {
  WordTokenizer words{read_words(kWords)};
  CodeConstraint constraint{read_api(kApi), 12, words};

  bool accepts(std::string_view text) const {
    CodePlace place = constraint.start();
    for (const char byte : text) {
      const auto token = WordTokenizer::kSpecials + static_cast<Token>(static_cast<std::uint8_t>(byte));
      if (!constraint.advance(place, token)) return false;
    }
    return constraint.complete(place);
  }
};

/// Functions inside one another make more than can be looked at: refused, and soon.
void too_much_is_refused() {
  const WordTokenizer words(read_words(kWords));
  std::string parameters, functions;
  for (int i = 0; i < 16; ++i) {
    const std::string name = "p" + std::to_string(i);
    parameters += (i == 0 ? "" : ",") + (R"({"name": ")" + name) +
                  R"(", "types": ["string", "pose"], "required": true, "choices": []})";
  }
  for (int i = 0; i < 64; ++i) {
    functions += (i == 0 ? "" : ",") + (R"({"name": "f)" + std::to_string(i)) + R"(", "result": )" +
                 (i == 0 ? "null" : "\"pose\"") + R"(, "parameters": [)" + parameters + "]}";
  }
  const CodeApi api = read_api("[" + functions + "]");
  CHECK_THROWS(BundleError, "api: expected functions whose calls have at most",
               CodeConstraint(api, 12, words));
}

/// The largest table, of words that all begin as the functions do: what is looked at of it is what they go on
/// with. If it were the table at every place, this would not end.
void tables_that_begin_alike_are_made_soon() {
  std::string words, parameters;
  const std::string same(44, 'a');
  for (int i = 0; i < 65000; ++i) words += (i == 0 ? "\"" : ",\"") + same + "b" + std::to_string(i) + "\"";
  words = R"({"format": "keystep-words", "version": 1, "words": [)" + words +
          R"(], "specials": ["<pad>", "<end>", "<image>", "<proprioception>"]})";
  for (int i = 0; i < 16; ++i) {
    std::string choices;
    for (int j = 0; j < 64; ++j) choices += (j == 0 ? "\"" : ",\"") + same + "b" + std::to_string(j) + "c\"";
    parameters += (i == 0 ? "" : ",") + (R"({"name": "p)" + std::to_string(i)) +
                  R"(", "types": ["string"], "required": true, "choices": [)" + choices + "]}";
  }
  const std::string api = R"([{"name": ")" + same + R"(b7", "result": null, "parameters": [)" + parameters +
                          R"(]}, {"name": ")" + same + R"(b8", "result": null, "parameters": []}])";
  const WordTokenizer table(read_words(words));
  const CodeConstraint constraint(read_api(api), 12, table);
  CHECK(constraint.nodes() > 5000 && constraint.shortest() == 4);  // its name, "(", ")" and the end
}

void code_is_accepted_and_nothing_else() {
  const Constrained of;
  for (const char* good :
       {"done()", "pick(get_actor('red cube'))", "pick(pose_dict['A'], push=False)",
        "# done()\n# topple([get_actor('a'), get_actor(\"it's\", actor_pos=(12, 0))])",
        "pose_dict['A'] = turn(get_pose(get_actor('a', actor_pos=(-1, -1))), -22.5, way='leftmost')"}) {
    CHECK(of.accepts(good));
    for (std::size_t cut = 0; cut + 1 < std::string_view(good).size(); ++cut) {
      const std::string_view begun(good, cut);
      CHECK(of.accepts(begun) == (begun == "# done()"));
    }
  }
  for (const char* bad : {"", "done", "done();", "done()\n", "# done()\ndone()", "pick(get_actor(\"a\"))",
                          "pick(get_actor(''))", "pick(get_actor('a', actor_pos=(13, 0)))", "pick('a')",
                          "topple([])", "get_actor('a')", "pick(turn(pose_dict['A'], 1.50))",
                          "pick(turn(pose_dict['A'], 1, way='right'))", "x = 1", "\x80"}) {
    CHECK(!of.accepts(bad));
  }
}

/// Logits of few values, so that there are equals; or rising, so that every token is tried.
std::vector<float> random_logits(Random& random, std::size_t count) {
  std::vector<float> logits(count);
  const std::size_t kind = below(random, 3);
  for (std::size_t i = 0; i < count; ++i) {
    logits[i] = kind == 0 ? float(below(random, 3)) : kind == 1 ? float(i) : float(below(random, 1 << 20));
  }
  return logits;
}

void every_walk_ends(Random& random) {
  const Constrained of;
  CHECK(of.constraint.shortest() == 2);
  for (int walk = 0; walk < kWalks; ++walk) {
    CodePlace place = of.constraint.start();
    std::vector<Token> reply;
    Token token = WordTokenizer::kNone;
    for (std::size_t left = 2 + below(random, 40); left > 0 && token != WordTokenizer::kEnd; --left) {
      const std::vector<float> logits = random_logits(random, std::size_t(of.words.size()) + 3);
      token = of.constraint.likeliest(logits, place, left);
      CHECK(of.constraint.allows(place, token, left));
      for (Token other = 0; other < of.words.size() + 3; ++other) {
        const float ours = logits[std::size_t(token)], theirs = logits[std::size_t(other)];
        if (theirs > ours || (theirs == ours && other < token)) {
          CHECK(!of.constraint.allows(place, other, left));
        }
      }
      if (token == WordTokenizer::kEnd) break;
      reply.push_back(token);
      CHECK(of.constraint.advance(place, token));
    }
    CHECK(token == WordTokenizer::kEnd && of.accepts(decoded(of.words, reply)));
  }
}

/// The likeliest token of `FakeDecode` that is allowed: the script's, or the first one.
bool slow_constrained(const Constrained& of, const NextToken& next, std::vector<Vector> sequence,
                      Tokens& reply) {
  reply.clear();
  CodePlace place = of.constraint.start();
  for (std::size_t left = kLimit; left > 0; --left) {
    Token token = next(sequence);
    for (Token other = 0; !of.constraint.allows(place, token, left); ++other) token = other;
    if (token == WordTokenizer::kEnd) return true;
    CHECK(of.constraint.advance(place, token));
    reply.push_back(token);
    sequence.push_back({static_cast<float>(token), 0});
  }
  return false;
}

struct ConstrainedBench {
  explicit ConstrainedBench(NextToken next)
      : bench(std::move(next)), writer(bench.spec, bench.code.words, *bench.fake.decoder, &of.constraint) {}

  void ask(float number, bool request) {
    bench.ask(number, request);
    CHECK(
        slow_constrained(of, bench.fake.script.next, vectors_of(bench.prompt.view(), number), bench.wanted));
    bench.wanted_text = as_text(of.words, bench.wanted);
  }
  Status write(std::span<const Draft> drafts, std::string_view commented = {}) {
    return writer.write(bench.prompt.view(), drafts, commented, WrittenBench::kStop, {bench.count, 0});
  }

  Constrained of;
  WrittenBench bench;
  ReplyWriter writer;
};

Tokens ended(Tokens reply) {
  reply.push_back(WordTokenizer::kEnd);
  return reply;
}

/// Drafts of what comes, of a part of it, and of what is no code: all the text of greedy decoding.
void every_way_writes_the_same(std::uint32_t seed) {
  Random random(seed);
  const WordTokenizer words(read_words(kWords));
  const Script script = random_script(words, random);
  ConstrainedBench bench(script);
  int one_pass = 0, stops = 0;
  for (int step = 0; step < kSteps; ++step) {
    bench.ask(static_cast<float>(below(random, 5)), below(random, 6) == 0);
    std::vector<Tokens> buffers = {ended(script.replies[below(random, script.replies.size())])};
    if (below(random, 2) == 0) buffers.insert(buffers.begin(), ended(bench.bench.wanted));
    if (below(random, 3) == 0) {
      buffers[0].resize(1 + below(random, buffers[0].size()));
      buffers[0].push_back(WordTokenizer::kFirstWord);
    }
    const std::vector<Draft> drafts(buffers.begin(), buffers.end());
    const bool early = below(random, 4) == 0;
    const std::string commented = early ? "# pick(pose_dict['A'])" : "";
    CHECK(bench.write(drafts, commented) == Status::ok && bench.writer.ended());
    const bool stopped = bench.writer.text() == commented && bench.bench.wanted_text != commented;
    CHECK(stopped ? bench.bench.wanted_text.starts_with(commented.substr(0, WrittenBench::kStop))
                  : bench.writer.text() == bench.bench.wanted_text);
    CHECK(bench.of.accepts(bench.writer.text()));
    stops += stopped;
    one_pass += bench.bench.fake.decoder->passes() == 1;
    if (is_keystep(bench.writer.text())) CHECK(bench.bench.code.memory.remember(bench.writer.text()));
  }
  CHECK(one_pass > kSteps / 10 && stops > 0);
}

void failures_leave_nothing_behind() {
  ConstrainedBench bench([](std::span<const Vector>) { return WordTokenizer::kSpecials + Token('['); });
  for (std::int64_t step = 0; step < 20; ++step) {
    bench.ask(static_cast<float>(step % 3), false);
    bench.bench.fake.script.faults = {.nan_at_run = bench.bench.fake.script.runs + 1};
    CHECK(bench.write({}) == Status::rejected_plan);
    bench.bench.fake.script.faults = {};
    CHECK(bench.write({}) == Status::ok && bench.writer.text() == bench.bench.wanted_text);
  }
}

void a_step_allocates_nothing() {
  Random random(3);
  ConstrainedBench bench(random_script(WordTokenizer(read_words(kWords)), random));
  const Tokens draft = ended(encoded(bench.of.words, "# pick(get_actor('red'))"));
  const std::vector<Draft> drafts = {draft};
  bench.ask(1, false);
  const std::uint64_t before = allocations;
  bool good = true;
  for (int step = 0; step < 50; ++step) {
    bench.bench.fake.look(static_cast<float>(step % 5));
    good &= bench.write(drafts, step % 2 == 0 ? "# done()" : "") == Status::ok && bench.writer.ended();
  }
  CHECK(allocations == before && good);
}

void what_cannot_end_is_refused() {
  const Constrained of;
  const std::string api = R"([{"name": "ninechars", "result": null, "parameters": []}])";
  const CodeConstraint constraint(read_api(api), 3, of.words);
  CHECK(constraint.shortest() == 8);  // pose_dict[' A '] = pose_dict[' A ' ] and the end
  CodePlannerSpec spec = planner_spec(of.words);
  FakeDecoder fake(spec, [](std::span<const Vector>) { return Token(0); });
  spec.reply_tokens = 8;
  const ReplyWriter writer(spec, of.words, *fake.decoder, &constraint);
  spec.reply_tokens = 7;
  CHECK_THROWS(BundleError,
               "planner.reply_tokens: expected at least 8 (the shortest reply that is code), got 7",
               ReplyWriter(spec, of.words, *fake.decoder, &constraint));
}

/// Flipped bits, lost and doubled bytes: works, or is refused.
void damaged_apis_are_refused(Random& random) {
  const WordTokenizer words(read_words(kWords));
  int read = 0, refused = 0;
  for (int i = 0; i < kDamaged; ++i) {
    std::string json = kApi;
    for (std::size_t changes = 1 + below(random, 2); changes > 0; --changes) {
      const std::size_t at = below(random, json.size()), kind = below(random, 3);
      if (kind == 0) json[at] = static_cast<char>(json[at] ^ (1 << below(random, 7)));
      if (kind == 1) json.erase(at, 1 + below(random, 4));
      if (kind == 2) json.insert(at, json, below(random, json.size()), 1 + below(random, 8));
    }
    try {
      const CodeConstraint constraint(read_api(json), 3, words);
      CHECK(constraint.shortest() >= 2);
      ++read;
    } catch (const BundleError& error) {
      CHECK(std::string(error.what()).find(": expected ") != std::string::npos);
      ++refused;
    }
  }
  std::printf("%d were read, %d were refused\n", read, refused);
  CHECK(read > kDamaged / 100 && refused > kDamaged / 4);
}

}  // namespace

int main() {
  Random random(15);
  too_much_is_refused();
  tables_that_begin_alike_are_made_soon();
  code_is_accepted_and_nothing_else();
  every_walk_ends(random);
  for (std::uint32_t seed = 1; seed <= 3; ++seed) every_way_writes_the_same(seed);
  failures_leave_nothing_behind();
  a_step_allocates_nothing();
  what_cannot_end_is_refused();
  damaged_apis_are_refused(random);
  return result();
}
