#include "code/event_ring.hpp"

#include <algorithm>

namespace keystep {

const char* name(CodeEventKind kind) noexcept {
  switch (kind) {
    case CodeEventKind::key_step:
      return "key_step";
    case CodeEventKind::forgotten:
      return "forgotten";
    case CodeEventKind::refused:
      return "refused";
    case CodeEventKind::endless:
      return "endless";
    case CodeEventKind::not_finite:
      return "not_finite";
    case CodeEventKind::failed:
      return "failed";
  }
  return "unknown event";
}

EventRing::EventRing(std::size_t capacity, std::size_t text_bytes) {
  slots_.reserve(capacity);
  for (std::size_t i = 0; i < capacity; ++i) slots_.emplace_back(text_bytes);
}

bool EventRing::add(CodeEventKind kind, std::int64_t step, std::string_view text) noexcept {
  Slot& slot = slots_[count_ % slots_.size()];
  slot.kind = kind;
  slot.step = step;
  slot.text.clear();
  (void)slot.text.append(text);  // one that is too long is left out
  return count_++ >= slots_.size();
}

std::vector<CodeEvent> EventRing::all() const {
  std::vector<CodeEvent> events;
  for (std::size_t i = count_ - std::min(count_, slots_.size()); i < count_; ++i) {
    const Slot& slot = slots_[i % slots_.size()];
    events.push_back({slot.kind, slot.step, std::string(slot.text.text())});
  }
  return events;
}

}  // namespace keystep
