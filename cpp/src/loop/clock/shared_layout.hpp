// What is where in shared memory; docs/real_time.md has it as a table. Numbers are the machine's own.
#pragma once

#include <algorithm>
#include <cstring>

#include "keystep/shared_arrays.hpp"

namespace keystep {

inline constexpr char kSharedMagic[8] = {'k', 'e', 'y', 's', 't', 'e', 'p', '\0'};
inline constexpr std::uint32_t kSharedVersion = 1;
inline constexpr std::size_t kSharedAlign = 64;
inline constexpr std::uint32_t kMaxSharedFields = 64;

constexpr std::size_t aligned(std::size_t bytes) noexcept {
  return (bytes + kSharedAlign - 1) / kSharedAlign * kSharedAlign;
}

struct SharedHeader {
  char magic[8];  // written last: the rest is there
  std::uint32_t version;
  std::uint32_t fields;
  std::uint64_t slot_bytes;  // of one record; there are two
  std::uint64_t bytes;       // of all
  std::uint64_t count;       // records written; record n is in slot n % 2
  std::uint64_t ended;
  std::uint64_t unused[2];
};
static_assert(sizeof(SharedHeader) == 64);

struct SharedEntry {
  char name[80];        // ends in NUL
  std::uint32_t dtype;  // 0 float32, 1 int64, 2 uint8
  std::uint32_t axes;
  std::int64_t shape[3];
  std::uint64_t offset;  // in a slot
  std::uint64_t bytes;
};
static_assert(sizeof(SharedEntry) == 128);

struct SlotHead {
  std::int64_t timestamp_us, now_us, status, written_us, unused[4];
};
static_assert(sizeof(SlotHead) == 64);

struct SharedLayout {
  std::vector<SharedEntry> entries;
  std::size_t slots = 0, slot_bytes = sizeof(SlotHead), bytes = 0;

  /// Throws ArgumentError.
  explicit SharedLayout(const std::vector<SharedField>& fields);
};

}  // namespace keystep
