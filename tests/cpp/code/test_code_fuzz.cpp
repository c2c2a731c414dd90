// Random and damaged texts, tables and layouts: what is read works, the rest is refused as BundleError. Worth
// most under the sanitizers.
#include <algorithm>
#include <random>
#include <set>

#include "code_fixture.hpp"
#include "keystep/code_text.hpp"
#include "keystep/status.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kTables = cases(200, 30), kTexts = cases(100, 25), kDamaged = cases(4000, 600);

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

/// Few characters, so that entries begin with each other and stand everywhere.
std::string random_piece(Random& random, std::string_view alphabet, std::size_t longest) {
  std::string piece(1 + below(random, longest), 'a');
  for (char& c : piece) c = alphabet[below(random, alphabet.size())];
  return piece;
}

std::string table_of(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "\"" : ", \"") + word + "\"";
  const std::size_t from = kWords.find("\"words\": ") + 9;
  return kWords.substr(0, from) + "[" + list + "]}";
}

std::vector<std::string> random_words(Random& random) {
  std::set<std::string> words;
  for (std::size_t i = below(random, 30); i > 0; --i) {
    const std::string word = random_piece(random, "aab_ '(", 5);
    if (word.size() > 1 || word[0] == 'a' || word[0] == 'b' || word[0] == '_') words.insert(word);
  }
  return {words.begin(), words.end()};
}

/// Pieces of entries, of what may stand between, and bytes that are no UTF-8.
std::string random_text(Random& random, const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = below(random, 20); i > 0; --i) {
    const std::size_t kind = below(random, 4);
    if (kind == 0 || words.empty()) text += random_piece(random, "ab_ '(\n\xff\xc3\xa9", 4);
    if (kind >= 1 && !words.empty()) text += words[below(random, words.size())];
    if (kind == 3) text += ' ';
  }
  return text;
}

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// Index of the longest entry that fits at `at`, as docs/tokenizer.md has it; -1 if none does.
int slow_fit(const std::string& text, std::size_t at, const std::vector<std::string>& words) {
  int best = -1;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (text.compare(at, word.size(), word) != 0) continue;
    const std::size_t stop = at + word.size();
    if (is_word_byte(word.front()) && at > 0 && is_word_byte(text[at - 1])) continue;
    if (is_word_byte(word.back()) && stop < text.size() && is_word_byte(text[stop])) continue;
    if (best < 0 || word.size() > words[static_cast<std::size_t>(best)].size()) best = static_cast<int>(i);
  }
  return best;
}

/// The three rules of docs/tokenizer.md.
std::vector<Token> slow_encode(const std::string& text, const std::vector<std::string>& words) {
  std::vector<Token> tokens;
  bool after_word = false;
  for (std::size_t at = 0; at < text.size();) {
    int fit = -1;
    if (after_word && text[at] == ' ' && at + 1 < text.size() && is_word_byte(text[at + 1])) {
      fit = slow_fit(text, at + 1, words);
      if (fit >= 0) ++at;
    }
    if (fit < 0) fit = slow_fit(text, at, words);
    if (fit < 0) {
      tokens.push_back(WordTokenizer::kSpecials + static_cast<std::uint8_t>(text[at++]));
      after_word = false;
      continue;
    }
    const std::string& word = words[static_cast<std::size_t>(fit)];
    tokens.push_back(WordTokenizer::kFirstWord + fit);
    at += word.size();
    after_word = is_word_byte(word.back());
  }
  return tokens;
}

void check_text(const WordTokenizer& words, const std::string& text, const std::vector<std::string>& table) {
  const std::vector<Token> tokens = encoded(words, text);
  CHECK(tokens == slow_encode(text, table));
  CHECK(decoded(words, tokens) == text);
  CHECK(std::ranges::all_of(tokens, [&](Token token) { return words.is_text(token); }));
  const std::size_t line = text.find('\n');
  if (line == text.npos) return;
  std::vector<Token> parts = encoded(words, text.substr(0, line + 1));
  std::ranges::copy(encoded(words, text.substr(line + 1)), std::back_inserter(parts));
  CHECK(parts == tokens);
}

/// What was written does not change by what is written next.
void check_tokens(const WordTokenizer& words, Random& random) {
  BoundedText text(20 * WordTokenizer::kMostBytes);
  std::vector<Token> tokens;
  for (std::size_t i = below(random, 20); i > 0; --i) {
    const std::string before(text.text());
    const Token last = tokens.empty() ? WordTokenizer::kNone : tokens.back();
    tokens.push_back(WordTokenizer::kSpecials + Token(below(random, std::size_t(words.size() - 4))));
    CHECK(words.decode(last, tokens.back(), text) && text.text().starts_with(before));
  }
  CHECK(decoded(words, tokens) == text.text());
}

void any_text_comes_back(Random& random) {
  for (int i = 0; i < kTables; ++i) {
    const std::vector<std::string> table = random_words(random);
    const WordTokenizer words(read_words(table_of(table)));
    for (int j = 0; j < kTexts; ++j) {
      check_text(words, random_text(random, table), table);
      check_tokens(words, random);
    }
  }
  const WordTokenizer words(read_words(kWords));
  std::string huge;
  while (huge.size() < 1'000'000) huge += random_piece(random, "get_actor('red cube')\n\x80", 40);
  CHECK(decoded(words, encoded(words, huge)) == huge);
}

/// A memory beside a slow one: what it keeps, what a prompt shows of it, for random rooms.
void memories_agree(Random& random, MemoryOverflow overflow) {
  CodeBench bench(kPaperPrompt, {.keysteps = 5, .keystep_bytes = 40, .overflow = overflow});
  const bool forgets = overflow == MemoryOverflow::forget_oldest;
  std::vector<std::string> kept;
  for (int i = 0; i < kTexts * 10; ++i) {
    const std::string code = random_piece(random, "red cube()\n#;", 60);
    const bool fits = code.size() <= 40 && (kept.size() < 5 || forgets);
    CHECK(bench.memory.remember(code) == fits);
    if (fits) kept.push_back(code);
    if (kept.size() > 5) kept.erase(kept.begin());
    CHECK(bench.memory.size() == kept.size() && bench.memory.last() == (kept.empty() ? "" : kept.back()));
    for (std::size_t k = 0; k < kept.size(); ++k) CHECK(bench.memory[k] == kept[k]);
    const std::size_t room = below(random, 150);
    std::size_t first = 0;
    std::vector<Token> wanted;
    for (; first <= kept.size(); ++first) {
      wanted.clear();
      for (std::size_t k = first; k < kept.size(); ++k) {
        std::ranges::copy(encoded(bench.words, (k == first ? "" : "; ") + kept[k]),
                          std::back_inserter(wanted));
      }
      if (wanted.size() <= room) break;
    }
    Bounded<Token> shown(room);
    const bool shows = bench.memory.append_shown(room, shown);
    CHECK(shows == (first == 0 || forgets));
    if (shows) CHECK(std::ranges::equal(shown.view(), wanted) && bench.memory.shown() == kept.size() - first);
    if (below(random, 20) == 0) bench.memory.clear(), kept.clear();
  }
}

/// Flipped bits, lost and doubled bytes.
std::string damaged(std::string text, Random& random) {
  for (std::size_t i = 1 + below(random, 3); i > 0; --i) {
    const std::size_t at = below(random, text.size()), kind = below(random, 4);
    if (kind == 0) text[at] = static_cast<char>(text[at] ^ (1 << below(random, 8)));
    if (kind == 1) text.erase(at, 1 + below(random, 4));
    if (kind == 2) text.insert(at, text, below(random, text.size()), 1 + below(random, 8));
    if (kind == 3) text.insert(at, std::string(1, "{}[]\",:\\0\n"[below(random, 10)]));
  }
  return text;
}

void damaged_data_is_refused(Random& random) {
  int read = 0, refused = 0;
  for (int i = 0; i < kDamaged; ++i) {
    try {
      const bool of_words = below(random, 2) == 0;
      const std::string words = of_words ? damaged(kWords, random) : kWords;
      const std::string& layout = below(random, 2) == 0 ? kPrompt : kPaperPrompt;
      CodeBench bench(of_words ? layout : damaged(layout, random), {}, words);
      Bounded<Token> tokens(1 << 14);
      CHECK(bench.memory.remember("pick(get_actor('red cube'))") && bench.memory.remember("done()"));
      CHECK(
          bench.writer.append({.task = "Pick up the red cube", .request = true}, bench.memory, 1000, tokens));
      ++read;
    } catch (const BundleError& error) {
      CHECK(std::string(error.what()).find(": expected ") != std::string::npos);
      ++refused;
    }
  }
  std::printf("%d were read, %d were refused\n", read, refused);
  CHECK(read > kDamaged / 50 && refused > kDamaged / 4);
}

/// Any bytes: nothing but UTF-8 comes of them, and of UTF-8 itself.
void replies_are_made_utf8(Random& random) {
  for (int i = 0; i < kTexts * 50; ++i) {
    const std::string bytes =
        random_piece(random, "a#\n \xc3\xa9\xe2\x98\x83\xf0\x9f\x98\x80\xed\xa0\xc0\xff", 24);
    BoundedText text(3 * bytes.size()), again(9 * bytes.size()), commented(9 * bytes.size() + 2);
    CHECK(append_as_utf8(bytes, text) && append_as_utf8(text.text(), again) && again.text() == text.text());
    CHECK(append_comment(text.text(), commented) && !is_keystep(commented.text()));
    CHECK(!stores_pose(commented.text()) &&
          goes_on(commented.text(), commented.text(), 1 + below(random, 30)));
    is_keystep(text.text());
  }
}

}  // namespace

int main() {
  Random random(15);
  any_text_comes_back(random);
  memories_agree(random, MemoryOverflow::forget_oldest);
  memories_agree(random, MemoryOverflow::refuse);
  damaged_data_is_refused(random);
  replies_are_made_utf8(random);
  return result();
}
