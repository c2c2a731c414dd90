// AVX-512 BF16: pairs of bfloat16, activations rounded to them, summed in fp32.
#if defined(__x86_64__)
#include "engines/native/avx512.hpp"

namespace keystep::native {
namespace {

struct Bf16Pairs {
  using Vector = Sixteen;
  using Sums = __m512;
  using Input = __m512i;
  using Weight = __m512i;
  static constexpr int kGroup = 2, kWeightBytes = 64, kPrefetchBytes = 4096;
  static Weight weight(const std::byte* from) { return _mm512_loadu_si512(from); }
  static Input broadcast(const std::byte* from) {
    return _mm512_set1_epi32(*reinterpret_cast<const std::int32_t*>(from));
  }
  static Sums add(Sums sum, Input x, Weight w) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }
  static __m512 to_floats(Sums sum, const Convolution&, int, const Operand&, int) { return sum; }
  static void convert(__m512 x, float, std::byte* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
  }
};

}  // namespace

const Kernels& kernels_avx512_bf16() {
  static constexpr Kernels kKernels = kernels_of<Bf16Pairs>(Precision::bf16, "avx512_bf16");
  return kKernels;
}

}  // namespace keystep::native
#endif
