#include "keystep/word_tokenizer.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace keystep {
namespace {

constexpr bool is_word_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

constexpr std::uint8_t byte_of(char c) noexcept { return static_cast<std::uint8_t>(c); }

/// Bytes of the first character of a text that is not empty, as its first byte has it.
std::size_t character_size(std::string_view text) noexcept {
  const std::uint8_t first = byte_of(text.front());
  if (first < 0xC0) return 1;
  return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/// Of at most four bytes. The bytes of one character are no other's.
std::uint32_t packed(std::string_view character) noexcept {
  std::uint32_t value = 0;
  for (const char byte : character) value = value << 8 | byte_of(byte);
  return value;
}

constexpr std::uint64_t pair_of(Token left, Token right) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

bool is_word(std::string_view text, std::size_t at) noexcept {
  return at < text.size() && is_word_byte(text[at]);
}

}  // namespace

WordTokenizer::WordTokenizer(WordTable table) : table_(std::move(table)) {
  if (table_.pieces) {
    for (Token piece = kFirstWord; piece < size(); ++piece) {
      const std::string& text = entry(piece);
      if (text.size() == character_size(text)) characters_.emplace(packed(text), piece);
    }
    for (const auto& [left, right, joined] : table_.merges) {
      joins_.emplace(pair_of(left, right), Join{static_cast<std::uint32_t>(joins_.size()), joined});
      note_meeting(left, right);
    }
    return;
  }
  for (Token word = kFirstWord; word < size(); ++word) by_start_[byte_of(entry(word)[0])].push_back(word);
  for (std::vector<Token>& words : by_start_) {
    std::ranges::sort(words, std::ranges::greater(), [&](Token word) { return entry(word).size(); });
  }
}

const std::string& WordTokenizer::entry(Token word) const noexcept {
  return table_.words[static_cast<std::size_t>(word - kFirstWord)];
}

/// The longest entry that stands at `at` and cuts no word in two; kNone if there is none.
Token WordTokenizer::longest(std::string_view text, std::size_t at) const noexcept {
  if (at >= text.size()) return kNone;
  for (const Token word : by_start_[byte_of(text[at])]) {
    const std::string& bytes = entry(word);
    if (!text.substr(at).starts_with(bytes)) continue;
    const bool cuts_before = is_word_byte(bytes.front()) && at > 0 && is_word(text, at - 1);
    const bool cuts_after = is_word_byte(bytes.back()) && is_word(text, at + bytes.size());
    if (!cuts_before && !cuts_after) return word;
  }
  return kNone;
}

bool WordTokenizer::encode(std::string_view text, Bounded<Token>& tokens) const noexcept {
  return table_.pieces ? encode_pieces(text, tokens) : encode_words(text, tokens);
}

bool WordTokenizer::encode_words(std::string_view text, Bounded<Token>& tokens) const noexcept {
  bool after_word = false;
  for (std::size_t at = 0; at < text.size();) {
    Token found = kNone;
    if (after_word && text[at] == ' ' && is_word(text, at + 1)) {
      found = longest(text, at + 1);
      at += found != kNone;  // the space is implied
    }
    if (found == kNone) found = longest(text, at);
    after_word = found != kNone && is_word_byte(entry(found).back());
    if (!tokens.append(found != kNone ? found : kSpecials + byte_of(text[at]))) return false;
    at += found != kNone ? entry(found).size() : 1;
  }
  return true;
}

/// Each character, or its bytes.
bool WordTokenizer::append_characters(std::string_view text, Bounded<Token>& tokens) const noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view character = text.substr(at, character_size(text.substr(at)));
    const auto found = characters_.find(packed(character));
    const bool known = found != characters_.end();
    if (!tokens.append(known ? found->second : kSpecials + byte_of(text[at]))) return false;
    at += known ? character.size() : 1;
  }
  return true;
}

/// Where they meet in a text, two characters; elsewhere nothing is merged.
void WordTokenizer::note_meeting(Token left, Token right) {
  const std::string &before = entry(left), &behind = entry(right);
  std::size_t at = before.size() - 1;
  while (at > 0 && (byte_of(before[at]) & 0xC0) == 0x80) --at;  // the first byte of its last character
  const auto last = characters_.find(packed(std::string_view(before).substr(at)));
  const auto first = characters_.find(packed(std::string_view(behind).substr(0, character_size(behind))));
  if (last == characters_.end() || first == characters_.end()) return;  // a text has their bytes instead
  meetings_.insert(pair_of(last->second, first->second));
}

/// What is between two places at which nothing is merged is merged by itself: so the work grows with the
/// square of that, not of the text.
bool WordTokenizer::encode_pieces(std::string_view text, Bounded<Token>& tokens) const noexcept {
  if (text.empty()) return true;
  const std::size_t begin = tokens.size();
  if (!append_characters(" ", tokens) || !append_characters(text, tokens)) return false;
  const std::span<Token> all(&tokens[begin], tokens.size() - begin);
  std::size_t merged = 0;
  for (std::size_t first = 0, next = 0; first < all.size(); first = next) {
    for (++next; next < all.size() && meetings_.contains(pair_of(all[next - 1], all[next]));) ++next;
    if (merged < first) std::ranges::copy(all.subspan(first, next - first), &all[merged]);
    merged += merge(all.subspan(merged, next - first));
  }
  tokens.shorten(begin + merged);
  return true;
}

/// Of the pairs that become one the first in the table, of equals the first in the text, until there is none.
/// How many are left, at the front.
std::size_t WordTokenizer::merge(std::span<Token> tokens) const noexcept {
  std::size_t count = tokens.size();
  while (true) {
    Join best{.rank = std::numeric_limits<std::uint32_t>::max()};
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      const auto found = joins_.find(pair_of(tokens[i], tokens[i + 1]));
      if (found != joins_.end() && found->second.rank < best.rank) best = found->second, at = i;
    }
    if (best.joined == kNone) return count;
    tokens[at] = best.joined;
    std::ranges::copy(tokens.subspan(at + 2, count - at - 2), &tokens[at + 1]);
    --count;
  }
}

bool WordTokenizer::decode(Token before, Token token, BoundedText& text) const noexcept {
  if (!is_text(token)) return false;
  if (token < kFirstWord) {
    const auto byte = static_cast<char>(token - kSpecials);
    return (table_.pieces && before == kNone && byte == ' ') || text.append(byte);
  }
  const std::string& bytes = entry(token);
  if (table_.pieces) {
    const bool drops = before == kNone && bytes.starts_with(' ');
    return text.append(std::string_view(bytes).substr(drops ? 1 : 0));
  }
  const bool after_word = before >= kFirstWord && is_text(before) && is_word_byte(entry(before).back());
  const bool spaced = after_word && is_word_byte(bytes.front());
  if (spaced && !text.append(' ')) return false;
  if (text.append(bytes)) return true;
  if (spaced) text.shorten(text.size() - 1);
  return false;
}

bool WordTokenizer::decode(std::span<const Token> tokens, BoundedText& text) const noexcept {
  Token before = kNone;
  for (const Token token : tokens) {
    if (!decode(std::exchange(before, token), token, text)) return false;
  }
  return true;
}

}  // namespace keystep
