// A sequence that never allocates once it is made.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace keystep {

/// Has room for so many items, taken at construction. What does not fit is not appended, not even in part.
template <class T>
class Bounded {
 public:
  explicit Bounded(std::size_t capacity) : capacity_(capacity) { items_.reserve(capacity); }
  Bounded(const Bounded&) = delete;  // a vector's copy has less room
  Bounded& operator=(const Bounded&) = delete;
  Bounded(Bounded&&) = default;
  Bounded& operator=(Bounded&&) = default;
  ~Bounded() = default;

  /// False without room.
  [[nodiscard]] bool append(const T& item) noexcept {
    if (items_.size() == capacity_) return false;
    items_.push_back(item);
    return true;
  }
  /// Likewise. `items` lies elsewhere.
  [[nodiscard]] bool append(std::span<const T> items) noexcept {
    if (items.size() > capacity_ - items_.size()) return false;
    items_.insert(items_.end(), items.begin(), items.end());
    return true;
  }

  void clear() noexcept { items_.clear(); }
  /// Forgets what is behind the first `size` items, of which there are as many.
  void shorten(std::size_t size) noexcept {
    items_.erase(items_.begin() + std::ptrdiff_t(size), items_.end());
  }
  /// Forgets the first `count` items, of which there are as many.
  void drop_front(std::size_t count) noexcept {
    items_.erase(items_.begin(), items_.begin() + std::ptrdiff_t(count));
  }

  std::size_t size() const noexcept { return items_.size(); }
  bool empty() const noexcept { return items_.empty(); }
  std::size_t capacity() const noexcept { return capacity_; }
  const T& operator[](std::size_t i) const noexcept { return items_[i]; }
  T& operator[](std::size_t i) noexcept { return items_[i]; }
  const T& back() const noexcept { return items_.back(); }
  std::span<const T> view() const noexcept { return items_; }

 private:
  std::size_t capacity_;
  std::vector<T> items_;
};

/// Bytes, of text in UTF-8 unless it is said otherwise.
class BoundedText : public Bounded<char> {
 public:
  using Bounded::Bounded;
  [[nodiscard]] bool append(char byte) noexcept { return Bounded::append(byte); }
  [[nodiscard]] bool append(std::string_view text) noexcept {
    return Bounded::append(std::span(text.data(), text.size()));
  }
  std::string_view text() const noexcept { return {view().data(), size()}; }
};

}  // namespace keystep
