// The SHA extensions of x86 (Intel SDM, SHA256RNDS2, SHA256MSG1, SHA256MSG2): ten times the portable speed.
#include "bundle/sha256.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace keystep {

#if defined(__x86_64__)
namespace {

bool has_sha() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kSha = 1u << 29, kSse = bit_SSSE3 | bit_SSE4_1;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kSse) != kSse) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kSha) != 0;
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress(Sha256State& state, const std::byte* blocks,
                                                          std::size_t count) noexcept {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);  // words are big-endian
  auto* words = reinterpret_cast<__m128i*>(state.data());
  // The instructions want the words as (a, b, e, f) and (c, d, g, h).
  const __m128i low = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xb1);
  const __m128i high = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1b);
  __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
  for (const std::byte* block = blocks; block != blocks + 64 * count; block += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), swap);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {  // four rounds each
      const auto* constants = reinterpret_cast<const __m128i*>(kSha256Rounds.data()) + i;
      const __m128i sum = _mm_add_epi32(w[i % 4], _mm_loadu_si128(constants));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
      if (i >= 12) continue;
      const __m128i &second = w[(i + 1) % 4], &third = w[(i + 2) % 4], &last = w[(i + 3) % 4];
      const __m128i mixed =
          _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], second), _mm_alignr_epi8(last, third, 4));
      w[i % 4] = _mm_sha256msg2_epu32(mixed, last);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Sha256Compress sha256_by_instructions() noexcept {
  static const bool has = has_sha();
  return has ? &compress : nullptr;
}
#else
Sha256Compress sha256_by_instructions() noexcept { return nullptr; }
#endif

}  // namespace keystep
