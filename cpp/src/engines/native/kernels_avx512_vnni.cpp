// AVX-512 VNNI: multiplies pairs of int16 and adds them to the sum in one instruction.
#if defined(__x86_64__)
#include "engines/native/avx512.hpp"

namespace keystep::native {
namespace {

struct Int8 : Int8Pairs {
  static Sums add(Sums sum, Input x, Weight w) { return _mm512_dpwssd_epi32(sum, x, w); }
};

}  // namespace

const Kernels& kernels_avx512_vnni() {
  static constexpr Kernels kKernels = kernels_of<Int8>(Precision::int8, "avx512_vnni");
  return kKernels;
}

}  // namespace keystep::native
#endif
