// The newest events of an episode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "keystep/bounded.hpp"
#include "keystep/code_events.hpp"

namespace keystep {

/// Nothing is allocated after construction, but by `all`.
class EventRing {
 public:
  /// `text_bytes`: of the longest text; longer ones are left out.
  EventRing(std::size_t capacity, std::size_t text_bytes);

  void clear() noexcept { count_ = 0; }
  /// True: the oldest had to go.
  bool add(CodeEventKind kind, std::int64_t step, std::string_view text = {}) noexcept;
  std::vector<CodeEvent> all() const;  ///< the oldest first

 private:
  struct Slot {
    explicit Slot(std::size_t text_bytes) : text(text_bytes) {}
    CodeEventKind kind = CodeEventKind::key_step;
    std::int64_t step = 0;
    BoundedText text;
  };
  std::vector<Slot> slots_;
  std::size_t count_ = 0;  // since `clear`
};

}  // namespace keystep
