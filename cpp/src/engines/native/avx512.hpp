// What the three kernels_avx512*.cpp share: sixteen lanes, thirty-two registers.
#pragma once

#include <immintrin.h>

#include "engines/native/kernel_template.hpp"

namespace keystep::native {
namespace {

struct Sixteen {
  static constexpr int kLanes = 16, kRegisters = 32;
  using Floats = __m512;
  typedef std::int32_t Ints __attribute__((vector_size(64)));
  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
  static Floats splat(float x) { return _mm512_set1_ps(x); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
};

/// Pairs of int16: int8 weights are widened in the register.
struct Int8Pairs {
  using Vector = Sixteen;
  using Sums = __m512i;
  using Input = __m512i;
  using Weight = __m512i;
  static constexpr int kGroup = 2, kWeightBytes = 32, kPrefetchBytes = 2048;
  static Weight weight(const std::byte* from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Input broadcast(const std::byte* from) {
    return _mm512_set1_epi32(*reinterpret_cast<const std::int32_t*>(from));
  }
  static __m512 to_floats(Sums sum, const Convolution& part, int channel, const Operand& in, int b) {
    return _mm512_cvtepi32_ps(sum) * (Sixteen::load(part.scale + channel) * Sixteen::splat(in.scale[b]));
  }
  static void convert(__m512 x, float factor, std::byte* to) {
    const __m512i wide = _mm512_cvtps_epi32(x * Sixteen::splat(factor));
    const __m256i narrow = factor == 0 ? _mm256_setzero_si256() : _mm512_cvtsepi32_epi16(wide);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow);
  }
};

}  // namespace
}  // namespace keystep::native
