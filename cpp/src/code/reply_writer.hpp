// Replies, greedily: every token is the likeliest one. keystep.models.code_planner.writing is the slow
// reference.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "code/decoder.hpp"
#include "keystep/bounded.hpp"
#include "keystep/code_planner_spec.hpp"

namespace keystep {

/// An answer that is expected: its tokens and, behind them, the end.
using Draft = std::span<const Token>;

/// Nothing is allocated after construction. Of one session.
class ReplyWriter {
 public:
  /// The tokenizer, the decoder and the constraint outlive it. Under a constraint every token is the
  /// likeliest one that it allows, and every reply ends. Throws BundleError: none ends in the tokens of a
  /// reply.
  ReplyWriter(const CodePlannerSpec& spec, const WordTokenizer& tokenizer, Decoder& decoder,
              const CodeConstraint* constraint = nullptr);

  /// Writes a reply to a prompt that leaves room for one in the context.
  /// `drafts`: answers that are expected; the first that agrees with what is written is tried in one pass.
  /// `commented`: stops as soon as the reply begins as this one, which then is the reply; "": never.
  /// Whatever fails, a part of the reply may be there.
  Status write(std::span<const Token> prompt, std::span<const Draft> drafts, std::string_view commented,
               std::size_t early_stop, const Epoch& epoch) noexcept;

  /// In UTF-8, without the end.
  std::string_view text() const noexcept { return text_.text(); }
  /// Those that were written, without the end; of an early stop only those that told.
  std::span<const Token> tokens() const noexcept { return reply_.view(); }
  /// By an end token or an early stop, not by the limit of tokens: then it is no answer.
  bool ended() const noexcept { return ended_; }

 private:
  Status next(std::span<const Token> prompt, std::span<const Draft> drafts, const Epoch& epoch) noexcept;
  Draft rest_of(std::span<const Draft> drafts) const noexcept;
  Status take(Draft draft) noexcept;
  bool stops(std::string_view commented, std::size_t early_stop) noexcept;
  bool read() noexcept;

  const std::size_t limit_;
  const WordTokenizer& tokenizer_;
  Decoder& decoder_;
  const CodeConstraint* constraint_;
  CodePlace place_;          // of the reply so far, under a constraint
  Bounded<Token> sequence_;  // prompt and reply
  Bounded<Token> reply_, likeliest_;
  BoundedText bytes_, text_;
  bool ended_ = false;
};

}  // namespace keystep
