// What a planner that writes code tells of an episode.
#pragma once

#include <cstdint>
#include <string>

namespace keystep {

enum class CodeEventKind {
  key_step,    ///< a new call
  forgotten,   ///< an old key-step has no room any more, in the memory or in a prompt
  refused,     ///< there is no room, and nothing may be forgotten: no reply
  endless,     ///< a reply without an end within `reply_tokens`
  not_finite,  ///< logits with NaN or Inf
  failed,      ///< the inference engine failed
};
inline constexpr int kCodeEventKinds = 6;
const char* name(CodeEventKind kind) noexcept;

struct CodeEvent {
  CodeEventKind kind = CodeEventKind::key_step;
  std::int64_t step = 0;  ///< control steps since `reset`
  std::string text{};     ///< of a key-step, and of a reply without an end, as it was written
};

/// Since loading, or since the counts were reset.
struct CodeCounts {
  std::uint64_t steps = 0;    ///< control steps
  std::uint64_t replies = 0;  ///< written: the others were not asked for, or failed
  std::uint64_t key_steps = 0;
  std::uint64_t tokens = 0, passes = 0;  ///< of the replies: written, and runs of the decoder
  std::uint64_t prepared = 0;            ///< key-steps decoded while idle
  std::uint64_t forgotten = 0, refused = 0, endless = 0, not_finite = 0, failed = 0;
  std::uint64_t events_lost = 0;  ///< that the ring has no room for any more
};

}  // namespace keystep
