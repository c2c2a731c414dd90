// SHA-256 (FIPS 180-4), streamed: memory does not grow with the file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace keystep {

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2).
extern const std::array<std::uint32_t, 64> kSha256Rounds;

using Sha256State = std::array<std::uint32_t, 8>;
/// Takes `count` blocks of 64 bytes into the state.
using Sha256Compress = void (*)(Sha256State& state, const std::byte* blocks, std::size_t count) noexcept;

void sha256_portable(Sha256State& state, const std::byte* blocks, std::size_t count) noexcept;
/// By the CPU's own instructions (x86: SHA extensions); nullptr where it has none.
Sha256Compress sha256_by_instructions() noexcept;

class Sha256 {
 public:
  Sha256() : Sha256(sha256_by_instructions()) {}
  /// nullptr: the portable one.
  explicit Sha256(Sha256Compress compress) : compress_(compress ? compress : &sha256_portable) {}

  void update(std::span<const std::byte> data) noexcept;
  std::string finish();  ///< lower-case hexadecimal; nothing may follow

 private:
  static constexpr std::size_t kBlock = 64;

  Sha256Compress compress_;
  Sha256State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, kBlock> rest_{};  // of the data, less than a block
  std::size_t filled_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace keystep
