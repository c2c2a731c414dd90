#include "keystep/word_tokenizer.hpp"

#include <algorithm>
#include <utility>

namespace keystep {
namespace {

constexpr bool is_word_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

constexpr std::uint8_t byte_of(char c) noexcept { return static_cast<std::uint8_t>(c); }

bool is_word(std::string_view text, std::size_t at) noexcept {
  return at < text.size() && is_word_byte(text[at]);
}

}  // namespace

WordTokenizer::WordTokenizer(WordTable table) : table_(std::move(table)) {
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

bool WordTokenizer::decode(Token before, Token token, BoundedText& text) const noexcept {
  if (!is_text(token)) return false;
  if (token < kFirstWord) return text.append(static_cast<char>(token - kSpecials));
  const std::string& bytes = entry(token);
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
