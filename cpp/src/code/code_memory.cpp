#include "keystep/code_memory.hpp"

#include <utility>

#include "keystep/code_text.hpp"

namespace keystep {

CodeMemory::CodeMemory(PromptWriter& writer, const MemoryLimits& limits)
    : writer_(writer),
      overflow_(limits.overflow),
      keystep_bytes_(limits.keystep_bytes),
      text_(limits.keysteps * limits.keystep_bytes),
      scratch_(WordTokenizer::most_tokens(limits.keystep_bytes + writer.keystep_literals())),
      keysteps_(limits.keysteps) {}

void CodeMemory::clear() noexcept {
  text_.clear();
  keysteps_.clear();
  later_tokens_ = 0;
  shown_ = 0;
}

std::string_view CodeMemory::operator[](std::size_t i) const noexcept {
  const std::size_t begin = i == 0 ? 0 : keysteps_[i - 1].text_end;
  return text_.text().substr(begin, keysteps_[i].text_end - begin);
}

bool CodeMemory::remember(std::string_view code) noexcept {
  const bool full = size() == keysteps_.capacity();
  const std::size_t if_first = code.size() <= keystep_bytes_ ? count_tokens(code, true) : 0;
  if (code.empty() || if_first == 0 || (full && overflow_ == MemoryOverflow::refuse)) {
    ++refused_;
    return false;
  }
  if (full) drop_oldest();
  const std::size_t if_later = count_tokens(code, false);
  later_tokens_ += if_later;
  return text_.append(code) && keysteps_.append({text_.size(), if_first, if_later});
}

/// 0: too long.
std::size_t CodeMemory::count_tokens(std::string_view code, bool first) noexcept {
  scratch_.clear();
  return writer_.append_keystep(code, first, scratch_) ? scratch_.size() : 0;
}

void CodeMemory::drop_oldest() noexcept {
  const KeyStep oldest = keysteps_[0];
  text_.drop_front(oldest.text_end);
  keysteps_.drop_front(1);
  for (std::size_t i = 0; i < size(); ++i) keysteps_[i].text_end -= oldest.text_end;
  later_tokens_ -= oldest.tokens_if_later;
  ++forgotten_;
}

bool CodeMemory::append_shown(std::size_t room, Bounded<Token>& tokens) noexcept {
  std::size_t first = 0;
  for (std::size_t later = later_tokens_; first < size(); ++first) {
    later -= keysteps_[first].tokens_if_later;
    if (keysteps_[first].tokens_if_first + later <= room) break;
  }
  shown_ = size() - first;
  if (first > 0 && overflow_ == MemoryOverflow::refuse) return false;
  for (std::size_t i = first; i < size(); ++i) {
    if (!writer_.append_keystep((*this)[i], i == first, tokens)) return false;
  }
  return true;
}

bool CodeMemory::append_info(BoundedText& text) const noexcept {
  bool first = true;
  for (std::size_t i = 0; i < size(); ++i) {
    if (!stores_pose((*this)[i])) continue;
    if (!std::exchange(first, false) && !text.append('\n')) return false;
    if (!text.append((*this)[i])) return false;
  }
  return true;
}

}  // namespace keystep
