// x86-64 with AVX-512 F, BW, DQ and VL.
#if defined(__x86_64__)
#include "engines/native/avx512.hpp"

namespace keystep::native {
namespace {

struct Fp32 {
  using Vector = Sixteen;
  using Sums = __m512;
  using Input = __m512;
  using Weight = __m512;
  static constexpr int kGroup = 1, kWeightBytes = 64, kPrefetchBytes = 4096;
  static Weight weight(const std::byte* from) { return Sixteen::load(reinterpret_cast<const float*>(from)); }
  static Input broadcast(const std::byte* from) {
    return Sixteen::splat(*reinterpret_cast<const float*>(from));
  }
  static Sums add(Sums sum, Input x, Weight w) { return _mm512_fmadd_ps(x, w, sum); }
  static __m512 to_floats(Sums sum, const Convolution&, int, const Operand&, int) { return sum; }
  static void convert(__m512 x, float, std::byte* to) { Sixteen::store(reinterpret_cast<float*>(to), x); }
};

/// Weights become fp32 in the register; activations stay fp32.
struct Bf16 : Fp32 {
  static constexpr int kWeightBytes = 32;
  static Weight weight(const std::byte* from) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
};

struct Int8 : Int8Pairs {
  static Sums add(Sums sum, Input x, Weight w) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)); }
};

}  // namespace

const Kernels& kernels_avx512(Precision precision) {
  static constexpr Kernels kFp32 = kernels_of<Fp32>(Precision::fp32, "avx512"),
                           kBf16 = kernels_of<Bf16>(Precision::bf16, "avx512"),
                           kInt8 = kernels_of<Int8>(Precision::int8, "avx512");
  return precision == Precision::fp32 ? kFp32 : precision == Precision::bf16 ? kBf16 : kInt8;
}

}  // namespace keystep::native
#endif
