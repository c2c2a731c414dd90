#include "code/constraint.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

#include "keystep/bounded.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

using NodeId = CodeAutomaton::NodeId;

// As keystep.code.characters has them.
constexpr std::uint8_t kMostLines = 32;
constexpr std::size_t kMostCharacters = 2000;
constexpr std::size_t kMark = 2;  // bytes of "# ", which do not count

constexpr bool is_word_byte(std::uint8_t c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

constexpr std::size_t most_bytes(const CodePlace& place) noexcept {
  return kMostCharacters + (place.commented ? kMark * place.lines : 0);
}

}  // namespace

CodeConstraint::CodeConstraint(const CodeApi& api, int grid, const WordTokenizer& tokenizer)
    : automaton_(make_automaton(api, grid)),
      space_before_(tokenizer.space_before()),
      texts_(static_cast<std::size_t>(tokenizer.size())) {
  BoundedText text(WordTokenizer::kMostBytes);
  for (Token token = WordTokenizer::kSpecials; token < tokenizer.size(); ++token) {
    text.clear();
    if (!tokenizer.decode(WordTokenizer::kSpecials, token, text)) continue;  // there is room
    Text& found = texts_[static_cast<std::size_t>(token)];
    found.first = static_cast<std::uint32_t>(bytes_.size());
    found.bytes = static_cast<std::uint8_t>(text.size());
    for (const char byte : text.view()) bytes_.push_back(static_cast<std::uint8_t>(byte));
    const bool is_entry = token >= WordTokenizer::kFirstWord && !space_before_;
    found.begins_word = is_entry && is_word_byte(bytes_[found.first]);
    found.ends_word = is_entry && is_word_byte(bytes_.back());
  }
  measure();
  shortest_ = shortest_reply();
}

CodePlace CodeConstraint::start() const noexcept { return {.node = automaton_.reply}; }

bool CodeConstraint::step(CodePlace& place, std::uint8_t byte) const noexcept {
  if (byte == '\n') {
    if (!complete(place) || place.lines == kMostLines) return false;
    place.node = place.commented ? automaton_.mark : automaton_.line;
    ++place.lines;
  } else {
    place.commented |= place.bytes == 0 && byte == '#';
    place.node = automaton_.next(place.node, byte);
    if (place.node == CodeAutomaton::kNone) return false;
    const std::uint16_t most = automaton_.nodes[static_cast<std::size_t>(place.node)].most;
    place.characters = most == 0 ? 0 : static_cast<std::uint16_t>(place.characters + 1);
    if (place.characters > most) return false;
  }
  ++place.bytes;
  return place.bytes <= most_bytes(place);
}

bool CodeConstraint::advance(CodePlace& place, Token token) const noexcept {
  if (token < WordTokenizer::kSpecials || static_cast<std::size_t>(token) >= texts_.size()) return false;
  const Text& text = texts_[static_cast<std::size_t>(token)];
  if (place.after_word && text.begins_word && !step(place, ' ')) return false;
  std::span<const std::uint8_t> bytes = bytes_of(text);
  if (space_before_ && place.bytes == 0 && bytes.front() == ' ') bytes = bytes.subspan(1);
  if (bytes.empty()) return false;  // nothing is written by it
  for (const std::uint8_t byte : bytes) {
    if (!step(place, byte)) return false;
  }
  place.after_word = text.ends_word;
  return true;
}

bool CodeConstraint::allows(const CodePlace& place, Token token, std::size_t left) const noexcept {
  if (token == WordTokenizer::kEnd) return complete(place) && left > 0;
  CodePlace next = place;
  if (!advance(next, token)) return false;
  const Cost& rest = cost(next.node, next.after_word);
  return rest.tokens > 0 && rest.tokens < left && next.bytes + rest.bytes <= most_bytes(next);
}

Token CodeConstraint::likeliest(std::span<const float> logits, const CodePlace& place,
                                std::size_t left) const noexcept {
  Token best = WordTokenizer::kNone;
  float highest = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (logits[i] > highest && allows(place, token, left)) best = token, highest = logits[i];
  }
  return best;
}

std::size_t CodeConstraint::shortest_reply() const noexcept {
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (std::size_t token = 0; token < texts_.size(); ++token) {
    CodePlace place = start();
    if (!advance(place, static_cast<Token>(token))) continue;
    const Cost& rest = cost(place.node, place.after_word);
    if (rest.tokens > 0) least = std::min(least, std::size_t{rest.tokens} + 1);
  }
  return least;
}

/// From the end of a line to its beginning: the shortest way is by earlier nodes only. Tokens are tried in
/// the order of their bytes, those that begin alike together: however many there are, only as many are looked
/// at as a node goes on with.
void CodeConstraint::measure() {
  std::vector<Token> all, words;  // in that order; `words` may have a space implied before them
  for (std::size_t i = WordTokenizer::kSpecials; i < texts_.size(); ++i) all.push_back(static_cast<Token>(i));
  std::ranges::sort(all, [&](Token one, Token other) {
    return std::ranges::lexicographical_compare(bytes_of(text(one)), bytes_of(text(other)));
  });
  std::ranges::copy_if(all, std::back_inserter(words), [&](Token token) { return text(token).begins_word; });
  std::vector<Token> others;
  std::ranges::copy_if(all, std::back_inserter(others),
                       [&](Token token) { return !text(token).begins_word; });
  costs_.resize(2 * automaton_.nodes.size());
  costs_[0] = costs_[1] = {1, 0};
  for (std::size_t i = 1; i < automaton_.nodes.size(); ++i) {
    const auto node = static_cast<NodeId>(i);
    Cost &behind_none = costs_[2 * i], &behind_word = costs_[2 * i + 1];
    try_tokens(node, all, 0, false, behind_none);
    try_tokens(node, others, 0, false, behind_word);
    if (const NodeId next = earlier(node, ' '); next != CodeAutomaton::kNone) {
      try_tokens(next, words, 0, true, behind_word);
    }
  }
}

/// Those that have the same first `at` bytes, which lead here; `spaced`: and a space before them.
void CodeConstraint::try_tokens(NodeId node, std::span<const Token> tokens, std::size_t at, bool spaced,
                                Cost& best) const noexcept {
  while (!tokens.empty() && text(tokens.front()).bytes == at) {
    const Text& whole = text(tokens.front());
    const Cost& rest = cost(node, whole.ends_word);
    const Cost found{static_cast<std::uint16_t>(rest.tokens + 1),
                     static_cast<std::uint16_t>(rest.bytes + at + (spaced ? 1 : 0))};
    if (rest.tokens > 0 && (best.tokens == 0 || found < best)) best = found;
    tokens = tokens.subspan(1);
  }
  const auto byte_at = [&](Token token) { return bytes_of(text(token))[at]; };
  while (!tokens.empty()) {
    const std::uint8_t byte = byte_at(tokens.front());
    const auto alike = std::ranges::upper_bound(tokens, byte, {}, byte_at) - tokens.begin();
    const NodeId next = earlier(node, byte);
    if (next != CodeAutomaton::kNone) {
      try_tokens(next, tokens.first(static_cast<std::size_t>(alike)), at + 1, spaced, best);
    }
    tokens = tokens.subspan(static_cast<std::size_t>(alike));
  }
}

}  // namespace keystep
