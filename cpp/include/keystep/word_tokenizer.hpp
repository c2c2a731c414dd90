// The words of a planner that writes, as docs/tokenizer.md specifies them; keystep.code.tokenizer is the same
// in Python.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "keystep/bounded.hpp"

namespace keystep {

/// A word, a byte, or a special.
using Token = std::int32_t;

/// The table of a tokenizer: entry i has the number `WordTokenizer::kFirstWord` + i.
struct WordTable {
  static constexpr std::size_t kMaxEntry = 64;  ///< bytes
  std::vector<std::string> words;
};

/// What `Tokenizer.to_dict` of Python wrote, as JSON. Throws BundleError.
WordTable read_words(const std::string& json);

class WordTokenizer {
 public:
  static constexpr Token kPad = 0, kEnd = 1, kImage = 2, kProprioception = 3, kSpecials = 4;
  static constexpr Token kFirstWord = kSpecials + 256;  ///< before it the bytes, from kSpecials on
  static constexpr std::size_t kMostBytes = WordTable::kMaxEntry + 1;  ///< of text that a token adds

  /// Of a table that was read.
  explicit WordTokenizer(WordTable table);

  /// How many tokens there are.
  Token size() const noexcept { return kFirstWord + static_cast<Token>(table_.words.size()); }
  /// Whether it is text: no special, and in the table.
  bool is_text(Token token) const noexcept { return token >= kSpecials && token < size(); }

  /// Appends the tokens of a text, of which there are at most as many as bytes. None is special, whatever the
  /// text spells. False without room: then a part of them is there.
  [[nodiscard]] bool encode(std::string_view text, Bounded<Token>& tokens) const noexcept;
  /// Appends what `token`, which is text, adds to a text whose last token is `before`, kNone at its
  /// beginning. False without room, or if it is no text: then nothing was appended.
  [[nodiscard]] bool decode(Token before, Token token, BoundedText& text) const noexcept;
  /// Appends the text of tokens, exactly, which may be no UTF-8. False likewise: then a part of it is there.
  [[nodiscard]] bool decode(std::span<const Token> tokens, BoundedText& text) const noexcept;
  static constexpr Token kNone = -1;

 private:
  Token longest(std::string_view text, std::size_t at) const noexcept;
  const std::string& entry(Token word) const noexcept;

  WordTable table_;
  std::array<std::vector<Token>, 256> by_start_;  // by first byte, the longest first
};

}  // namespace keystep
