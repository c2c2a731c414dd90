// A decoder over tokens with a cache that can be set back: what it makes likeliest next.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "code/constraint.hpp"
#include "keystep/bounded.hpp"
#include "keystep/code_planner_spec.hpp"
#include "keystep/engine.hpp"
#include "loop/epoch.hpp"

namespace keystep {

/// `embed` and `decode` of docs/bundle.md, bound to `tensors`.
struct DecoderGraphs {
  const GraphSpec &embed_spec, &decode_spec;
  std::unique_ptr<Graph> embed, decode;
};

/// What the graph `vision` makes of an observation.
struct SeenTensors {
  Tensor* seen = nullptr;
  Tensor* felt = nullptr;  ///< none: no proprioception
};

/// What a reply may go on with.
struct Allowed {
  const CodeConstraint& constraint;
  CodePlace place;
  std::size_t left;  ///< tokens, the end included
};

/// Keeps in its cache what one sequence of tokens shares with the one before. Nothing is allocated after
/// construction. Of one session.
class Decoder {
 public:
  /// `tensors` outlives it, and has what is seen.
  Decoder(const CodePlannerSpec& spec, DecoderGraphs graphs, const SeenTensors& seen, const Tensors& tensors);

  /// A new episode, or whatever else makes the cache void.
  void forget() noexcept;
  /// Something new was seen: tokens that stand for it are computed anew. Counts start again.
  void look() noexcept;

  /// The likeliest token behind `tokens`, of which there are some, and behind each of `draft` that follows
  /// them, into `likeliest`: at most the tokens of a reply. All together fit into the context, and with the
  /// first run after `look` all that stands for what is seen does. With `allowed` the likeliest token that
  /// is, up to where that is not the draft's.
  /// `rejected_plan`: NaN or Inf. After a failure the cache holds no more than what is good.
  Status run(std::span<const Token> tokens, std::span<const Token> draft, const Epoch& epoch,
             Bounded<Token>& likeliest, const Allowed* allowed = nullptr) noexcept;

  int passes() const noexcept { return passes_; }              ///< since `look`
  std::size_t computed() const noexcept { return computed_; }  ///< tokens that went through them
  const std::string& error() const noexcept { return error_; }
  void terminate() noexcept;  ///< any thread

 private:
  std::size_t shared(std::span<const Token> tokens) const noexcept;
  bool is_live(Token token) const noexcept;
  Status embed(std::span<const Token> tokens, const Epoch& epoch) noexcept;
  void put_seen(std::size_t same) noexcept;
  Status decode(std::size_t tokens, std::size_t rows, const Epoch& epoch) noexcept;
  Status choose(std::span<const Token> draft, Bounded<Token>& likeliest, const Allowed* allowed) noexcept;
  Status choose_allowed(std::span<const Token> draft, Bounded<Token>& likeliest, Allowed allowed) noexcept;
  Status refuse(Status status, const char* message) noexcept;

  const std::size_t width_, vocabulary_, image_tokens_;
  const std::vector<Token> never_;
  const DecoderGraphs graphs_;
  const SeenTensors seen_;
  Tensor &tokens_, &vectors_, &first_, &logits_;
  Bounded<Token> known_, wanted_;  // what the cache holds, what it shall hold
  bool looked_ = true;             // since the last run
  int passes_ = 0;
  std::size_t computed_ = 0;
  std::string error_;
};

}  // namespace keystep
