// Replies that a script chooses, by fast and by slow decoding.
#pragma once

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "code/reply_writer.hpp"
#include "code_fixture.hpp"
#include "fake_decoder.hpp"
#include "keystep/code_text.hpp"

namespace keystep::test {

constexpr std::size_t kLimit = 12, kContext = 160;
using Random = std::mt19937;
using Tokens = std::vector<Token>;

inline std::size_t below(Random& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

inline CodePlannerSpec planner_spec(const WordTokenizer& words) {
  CodePlannerSpec spec;
  spec.feels = "observation.state";
  spec.image_tokens = 2;
  spec.width = kVectorWidth;
  spec.vocabulary = static_cast<std::size_t>(words.size()) + 3;
  spec.context = kContext;
  spec.reply_tokens = kLimit;
  spec.never = {WordTokenizer::kPad, WordTokenizer::kImage, WordTokenizer::kProprioception};
  for (int i = 0; i < 3; ++i) spec.never.push_back(words.size() + i);
  return spec;
}

inline std::uint64_t hash_of(std::span<const Vector> seen) {
  std::uint64_t hash = 14695981039346656037u;
  for (const Vector& vector : seen) {
    for (const float value : vector) {
      hash = (hash ^ static_cast<std::uint64_t>(static_cast<std::int64_t>(value * 16))) * 1099511628211u;
    }
  }
  return hash ^ (hash >> 29);
}

/// Knows some replies, and answers with the one that the prompt's hash chooses; behind what is none of them,
/// anything. So it goes on for many steps, and everything in the cache matters.
struct Script {
  std::vector<Tokens> replies;

  Token operator()(std::span<const Vector> seen) const {
    std::size_t start = seen.size();  // of the reply: behind what is seen, and behind a request
    while (start > 0 && seen[start - 1][1] == 0 && seen[start - 1][0] != float(kRequestEnd)) --start;
    const Tokens& reply = replies[hash_of(seen.first(start)) % replies.size()];
    const std::size_t written = seen.size() - start;
    for (std::size_t i = 0; i < written; ++i) {
      if (i >= reply.size() || static_cast<Token>(seen[start + i][0]) != reply[i]) return other(seen);
    }
    return written < reply.size() ? reply[written] : WordTokenizer::kEnd;
  }

  static Token other(std::span<const Vector> seen) {
    const std::uint64_t hash = hash_of(seen);
    return hash % 3 == 0 ? WordTokenizer::kEnd : WordTokenizer::kSpecials + static_cast<Token>(hash % 266);
  }

  static constexpr Token kRequestEnd = WordTokenizer::kSpecials + '\n';
};

/// Greedy decoding from nothing. False: without end.
inline bool slow_write(const NextToken& next, std::vector<Vector> sequence, Tokens& reply) {
  reply.clear();
  while (reply.size() < kLimit) {
    const Token token = next(sequence);
    if (token == WordTokenizer::kEnd) return true;
    reply.push_back(token);
    sequence.push_back({static_cast<float>(token), 0});
  }
  return false;
}

/// A prompt as the decoder must see it.
inline std::vector<Vector> vectors_of(std::span<const Token> prompt, float picture) {
  std::vector<Vector> vectors;
  float row = 0;
  for (const Token token : prompt) {
    if (token == WordTokenizer::kImage) {
      vectors.push_back({picture, ++row});
    } else if (token == WordTokenizer::kProprioception) {
      vectors.push_back({picture, -1});
    } else {
      vectors.push_back({static_cast<float>(token), 0});
    }
  }
  return vectors;
}

inline std::string as_text(const WordTokenizer& words, const Tokens& tokens) {
  BoundedText text(3 * kLimit * WordTokenizer::kMostBytes);
  CHECK(append_as_utf8(decoded(words, tokens), text));
  return std::string(text.text());
}

/// What early stop makes of a greedy reply.
inline std::string stopped(const WordTokenizer& words, const Tokens& greedy, const std::string& commented,
                           std::size_t early_stop) {
  for (std::size_t count = 1; count <= greedy.size(); ++count) {
    const std::string text = as_text(words, {greedy.begin(), greedy.begin() + std::ptrdiff_t(count)});
    if (goes_on(text, commented, early_stop)) return commented;
  }
  return as_text(words, greedy);
}

/// A planner with a decoder that follows a script, and what it is compared with.
struct WrittenBench {
  explicit WrittenBench(NextToken next, const std::string& layout = kPrompt)
      : code(layout, {.keysteps = 16, .keystep_bytes = 200}),
        spec(planner_spec(code.words)),
        fake(spec, std::move(next)),
        writer(spec, code.words, *fake.decoder),
        prompt(kContext) {}

  /// Asks about a picture, and what must come.
  void ask(float number, bool request) {
    prompt.clear();
    CHECK(code.writer.append({.task = "red cube", .request = request}, code.memory, 60, prompt));
    CHECK(prompt.size() + kLimit <= kContext);
    fake.look(number);
    picture = number;
    wanted_end = slow_write(fake.script.next, vectors_of(prompt.view(), number), wanted);
    wanted_text = as_text(code.words, wanted);
  }

  Status write(std::span<const Draft> drafts = {}, std::string_view commented = {}) {
    const Epoch epoch{count, 0};
    return writer.write(prompt.view(), drafts, commented, kStop, epoch);
  }
  void check() const { CHECK(writer.text() == wanted_text && writer.ended() == wanted_end); }

  static constexpr std::size_t kStop = 6;
  const std::atomic<std::uint64_t> count = 0;
  CodeBench code;
  CodePlannerSpec spec;
  FakeDecoder fake;
  ReplyWriter writer;
  Bounded<Token> prompt;
  float picture = 0;
  Tokens wanted;
  bool wanted_end = false;
  std::string wanted_text;
};

inline Script random_script(const WordTokenizer& words, Random& random) {
  Script script;
  for (const char* text :
       {"# pick(red cube", "# pick(cube", "pick(get_actor('red')", "done()", "# done()", ""}) {
    script.replies.push_back(encoded(words, text));
  }
  script.replies.emplace_back(kLimit + 2, WordTokenizer::kFirstWord);  // endless
  Tokens wild;
  for (std::size_t i = below(random, kLimit + 3); i > 0; --i) {
    wild.push_back(WordTokenizer::kSpecials + static_cast<Token>(below(random, 256)));
  }
  script.replies.push_back(wild);
  return script;
}

}  // namespace keystep::test
