// What a reply may say, token by token: code of an API. docs/constrained.md has the rules;
// keystep.code.constraint is the slow reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "code/code_automaton.hpp"
#include "keystep/word_tokenizer.hpp"

namespace keystep {

/// Where a reply stands.
struct CodePlace {
  CodeAutomaton::NodeId node = CodeAutomaton::kNone;
  std::uint16_t bytes = 0;       ///< written
  std::uint16_t characters = 0;  ///< of the string that it is in
  std::uint8_t lines = 1;
  bool commented = false;
  bool after_word = false;  ///< the last token is an entry that ends with a word byte
};

/// Which tokens a reply may go on with, so that it can become code in the tokens that are left. It never
/// changes: all sessions of a bundle have one. Nothing is allocated after construction.
class CodeConstraint {
 public:
  /// Throws BundleError, as of `make_automaton`.
  CodeConstraint(const CodeApi& api, int grid, const WordTokenizer& tokenizer);

  CodePlace start() const noexcept;
  /// Goes on behind a token, not the end. False where that is no beginning of a reply: then `place` is lost.
  [[nodiscard]] bool advance(CodePlace& place, Token token) const noexcept;
  /// The reply may end here.
  bool complete(const CodePlace& place) const noexcept { return place.node == CodeAutomaton::kEnd; }
  /// Whether a reply may go on with a token, where `left` are left, it and the end included. With as many as
  /// `shortest` at the start, there always is one, from one allowed token to the next.
  bool allows(const CodePlace& place, Token token, std::size_t left) const noexcept;
  /// The one of them with the highest logit, of equals the lowest; kNone if there is none.
  Token likeliest(std::span<const float> logits, const CodePlace& place, std::size_t left) const noexcept;

  /// Tokens of the shortest reply, its end included; a reply needs room for them.
  std::size_t shortest() const noexcept { return shortest_; }
  std::size_t nodes() const noexcept { return automaton_.nodes.size(); }

 private:
  /// Of the shortest way to the end, it included. No tokens: there is none.
  struct Cost {
    std::uint16_t tokens = 0, bytes = 0;
    auto operator<=>(const Cost&) const = default;
  };
  struct Text {
    std::uint32_t first = 0;
    std::uint8_t bytes = 0;
    bool begins_word = false, ends_word = false;  ///< an entry
  };

  bool step(CodePlace& place, std::uint8_t byte) const noexcept;
  void measure();
  void try_tokens(CodeAutomaton::NodeId node, std::span<const Token> tokens, std::size_t at, bool spaced,
                  Cost& best) const noexcept;
  std::size_t shortest_reply() const noexcept;
  const Cost& cost(CodeAutomaton::NodeId node, bool after_word) const noexcept {
    return costs_[2 * static_cast<std::size_t>(node) + (after_word ? 1 : 0)];
  }
  const Text& text(Token token) const noexcept { return texts_[static_cast<std::size_t>(token)]; }
  /// kNone where the next node is none, or on no shortest way.
  CodeAutomaton::NodeId earlier(CodeAutomaton::NodeId node, std::uint8_t byte) const noexcept {
    const CodeAutomaton::NodeId next = automaton_.next(node, byte);
    return next < node ? next : CodeAutomaton::kNone;
  }
  std::span<const std::uint8_t> bytes_of(const Text& text) const noexcept {
    return std::span(bytes_).subspan(text.first, text.bytes);
  }

  CodeAutomaton automaton_;
  bool space_before_;  // of the tokenizer
  std::size_t shortest_ = 0;
  std::vector<Text> texts_;  // of all tokens; specials have none
  std::vector<std::uint8_t> bytes_;
  std::vector<Cost> costs_;  // by node, behind no word and behind one
};

}  // namespace keystep
