// One writer that never waits, any number of readers that see a whole value.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>

namespace keystep {

template <class T>
class Seqlock {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);

 public:
  /// The words are atomic, and written with release: whoever reads a new one also reads the odd count.
  void store(const T& value) noexcept {
    std::array<std::uint64_t, kWords> words;
    std::memcpy(words.data(), &value, sizeof(T));
    const std::uint64_t before = count_.load(std::memory_order_relaxed);
    count_.store(before + 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
    count_.store(before + 2, std::memory_order_release);
  }

  T load() const noexcept {
    std::array<std::uint64_t, kWords> words;
    for (;; std::this_thread::yield()) {
      const std::uint64_t before = count_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
      if (before % 2 == 0 && count_.load(std::memory_order_relaxed) == before) break;
    }
    T value;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    return value;
  }

 private:
  static constexpr std::size_t kWords = sizeof(T) / sizeof(std::uint64_t);

  std::atomic<std::uint64_t> count_ = 0;
  std::array<std::atomic<std::uint64_t>, kWords> words_{};
};

}  // namespace keystep
