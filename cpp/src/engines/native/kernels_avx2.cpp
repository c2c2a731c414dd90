// x86-64 with AVX2 and FMA: eight lanes, sixteen registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "engines/native/kernel_template.hpp"

namespace keystep::native {
namespace {

struct Eight {
  static constexpr int kLanes = 8, kRegisters = 16;
  using Floats = __m256;
  typedef std::int32_t Ints __attribute__((vector_size(32)));
  static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Floats x) { _mm256_storeu_ps(to, x); }
  static Floats splat(float x) { return _mm256_set1_ps(x); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
};

struct Fp32 {
  using Vector = Eight;
  using Sums = __m256;
  using Input = __m256;
  using Weight = __m256;
  static constexpr int kGroup = 1, kWeightBytes = 32, kPrefetchBytes = 2048;
  static Weight weight(const std::byte* from) { return Eight::load(reinterpret_cast<const float*>(from)); }
  static Input broadcast(const std::byte* from) {
    return _mm256_broadcast_ss(reinterpret_cast<const float*>(from));
  }
  static Sums add(Sums sum, Input x, Weight w) { return _mm256_fmadd_ps(x, w, sum); }
  static __m256 to_floats(Sums sum, const Convolution&, int, const Operand&, int) { return sum; }
  static void convert(__m256 x, float, std::byte* to) { Eight::store(reinterpret_cast<float*>(to), x); }
};

/// Weights become fp32 in the register; activations stay fp32.
struct Bf16 : Fp32 {
  static constexpr int kWeightBytes = 16;
  static Weight weight(const std::byte* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
};

/// Pairs of int16: int8 weights are widened in the register.
struct Int8 {
  using Vector = Eight;
  using Sums = __m256i;
  using Input = __m256i;
  using Weight = __m256i;
  static constexpr int kGroup = 2, kWeightBytes = 16, kPrefetchBytes = 2048;
  static Weight weight(const std::byte* from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Input broadcast(const std::byte* from) {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(from)));
  }
  static Sums add(Sums sum, Input x, Weight w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w)); }
  static __m256 to_floats(Sums sum, const Convolution& part, int channel, const Operand& in, int b) {
    return _mm256_cvtepi32_ps(sum) * (Eight::load(part.scale + channel) * Eight::splat(in.scale[b]));
  }
  static void convert(__m256 x, float factor, std::byte* to) {
    const __m256i wide = _mm256_cvtps_epi32(x * Eight::splat(factor));
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), factor == 0 ? _mm_setzero_si128() : narrow);
  }
};

}  // namespace

const Kernels& kernels_avx2(Precision precision) {
  static constexpr Kernels kFp32 = kernels_of<Fp32>(Precision::fp32, "avx2"),
                           kBf16 = kernels_of<Bf16>(Precision::bf16, "avx2"),
                           kInt8 = kernels_of<Int8>(Precision::int8, "avx2");
  return precision == Precision::fp32 ? kFp32 : precision == Precision::bf16 ? kBf16 : kInt8;
}

}  // namespace keystep::native
#endif
