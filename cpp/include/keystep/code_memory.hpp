// The key-steps of an episode, as the planner wrote them: they are part of its next prompts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "keystep/bounded.hpp"
#include "keystep/prompt.hpp"

namespace keystep {

/// What happens to a key-step for which there is no room, in the memory or in a prompt.
enum class MemoryOverflow {
  refuse,         ///< it is not kept; a prompt with all of them cannot be written
  forget_oldest,  ///< the oldest one is dropped; a prompt shows the newest, as many as fit
};

struct MemoryLimits {
  std::size_t keysteps = 256;        ///< at most
  std::size_t keystep_bytes = 4096;  ///< of one
  MemoryOverflow overflow = MemoryOverflow::forget_oldest;
};

/// Grows by appending, so that the cache of what was before stays good. Nothing is allocated after
/// construction. Of one session.
class CodeMemory {
 public:
  /// The writer outlives it.
  CodeMemory(PromptWriter& writer, const MemoryLimits& limits);

  /// Keeps a key-step. False: it was refused, as there is no room or it has no text; then nothing changes.
  [[nodiscard]] bool remember(std::string_view code) noexcept;
  void clear() noexcept;

  std::size_t size() const noexcept { return keysteps_.size(); }  ///< key-steps
  std::string_view operator[](std::size_t i) const noexcept;
  std::string_view last() const noexcept { return size() == 0 ? "" : (*this)[size() - 1]; }

  /// Appends the key-steps as they stand in a prompt, at most `room` tokens of them. False: not all fit,
  /// where none may be left out, or `tokens` has no room; then a part of them may be there.
  [[nodiscard]] bool append_shown(std::size_t room, Bounded<Token>& tokens) noexcept;
  /// How many the last prompt showed.
  std::size_t shown() const noexcept { return shown_; }

  /// Since construction.
  std::uint64_t forgotten() const noexcept { return forgotten_; }
  std::uint64_t refused() const noexcept { return refused_; }

  /// Appends what a controller is told of the memory: the key-steps that store a pose, each on a line of its
  /// own. Source: From Code to Action, algorithm 1. False without room for `info_capacity` bytes.
  [[nodiscard]] bool append_info(BoundedText& text) const noexcept;
  std::size_t info_capacity() const noexcept { return text_.capacity() + keysteps_.capacity(); }

 private:
  /// Where it ends in `text_`; how many tokens it has in a prompt, as the first and behind others.
  struct KeyStep {
    std::size_t text_end = 0, tokens_if_first = 0, tokens_if_later = 0;
  };
  std::size_t count_tokens(std::string_view code, bool first) noexcept;
  void drop_oldest() noexcept;

  PromptWriter& writer_;
  const MemoryOverflow overflow_;
  const std::size_t keystep_bytes_;
  BoundedText text_;
  Bounded<Token> scratch_;
  Bounded<KeyStep> keysteps_;
  std::size_t later_tokens_ = 0;  // of all, behind others
  std::size_t shown_ = 0;
  std::uint64_t forgotten_ = 0, refused_ = 0;
};

}  // namespace keystep
