// The words of a planner that writes, as docs/tokenizer.md specifies them; keystep.code.tokenizer is the same
// in Python.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "keystep/bounded.hpp"

namespace keystep {

/// A word, a byte, or a special.
using Token = std::int32_t;

/// Two tokens that become one, of a table of pieces.
struct TokenMerge {
  Token left = 0, right = 0, joined = 0;
};

/// The table of a tokenizer: entry i has the number `WordTokenizer::kFirstWord` + i.
struct WordTable {
  static constexpr std::size_t kMaxEntry = 64;  ///< bytes
  std::vector<std::string> words;
  bool pieces = false;  ///< entries are pieces of text, which are merged pair by pair; else words
  std::vector<TokenMerge> merges{};  ///< of pieces, the first ones first
};

/// What `Tokenizer.to_dict` of Python wrote, of either kind, as JSON. Throws BundleError.
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

  /// Whether tokens of a text begin with a space that it has not, which decoding drops (pieces). Else a space
  /// between two words is implied.
  bool space_before() const noexcept { return table_.pieces; }

  /// Appends the tokens of a text. None is special, whatever the text spells. False without room, which is a
  /// token for each byte, and of pieces for one more: then a part of them is there.
  [[nodiscard]] bool encode(std::string_view text, Bounded<Token>& tokens) const noexcept;
  static constexpr std::size_t most_tokens(std::size_t bytes) noexcept { return bytes + 1; }
  /// Appends what `token`, which is text, adds to a text whose last token is `before`, kNone at its
  /// beginning. False without room, or if it is no text: then nothing was appended.
  [[nodiscard]] bool decode(Token before, Token token, BoundedText& text) const noexcept;
  /// Appends the text of tokens, exactly, which may be no UTF-8. False likewise: then a part of it is there.
  [[nodiscard]] bool decode(std::span<const Token> tokens, BoundedText& text) const noexcept;
  static constexpr Token kNone = -1;

 private:
  Token longest(std::string_view text, std::size_t at) const noexcept;
  const std::string& entry(Token word) const noexcept;

  bool encode_words(std::string_view text, Bounded<Token>& tokens) const noexcept;
  bool encode_pieces(std::string_view text, Bounded<Token>& tokens) const noexcept;
  bool append_characters(std::string_view text, Bounded<Token>& tokens) const noexcept;
  void note_meeting(Token left, Token right);
  std::size_t merge(std::span<Token> tokens) const noexcept;

  struct Join {
    std::uint32_t rank = 0;
    Token joined = kNone;
  };

  WordTable table_;
  std::unordered_map<std::uint32_t, Token> characters_;  // of pieces: those of one character, by its bytes
  std::unordered_map<std::uint64_t, Join> joins_;        // and what two become
  std::unordered_set<std::uint64_t> meetings_;           // characters on both sides of what is joined
  std::array<std::vector<Token>, 256> by_start_;         // by first byte, the longest first
};

}  // namespace keystep
