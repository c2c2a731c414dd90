// Memory for weights: one block of huge pages, because a page table walk every 4 KiB slows a stream.
#pragma once

#include <cstddef>
#include <memory>

namespace keystep::native {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;  ///< of a cache line

  Arena() = default;
  /// Zeroed memory of `bytes`. Throws std::bad_alloc.
  explicit Arena(std::size_t bytes);

  std::byte* data() const noexcept { return memory_.get(); }

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte, Unmap> memory_;
};

constexpr std::size_t aligned(std::size_t bytes) noexcept {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

}  // namespace keystep::native
