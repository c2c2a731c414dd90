// Any CPU: four lanes, which GCC and Clang turn into SSE2 or NEON.
#include "engines/native/kernel_template.hpp"

namespace keystep::native {
namespace {

struct Four {
  static constexpr int kLanes = 4, kRegisters = 16;
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  static Floats load(const float* from) {
    Floats x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
  }
  static void store(float* to, Floats x) { __builtin_memcpy(to, &x, sizeof x); }
  static Floats splat(float x) { return Floats{x, x, x, x}; }
  static Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
};

struct Fp32 {
  using Vector = Four;
  using Sums = Four::Floats;
  using Input = Four::Floats;
  using Weight = Four::Floats;
  static constexpr int kGroup = 1, kWeightBytes = 16, kPrefetchBytes = 512;
  static Weight weight(const std::byte* from) { return Four::load(reinterpret_cast<const float*>(from)); }
  static Input broadcast(const std::byte* from) { return Four::splat(*reinterpret_cast<const float*>(from)); }
  static Sums add(Sums sum, Input x, Weight w) { return sum + x * w; }
  static Four::Floats to_floats(Sums sum, const Convolution&, int, const Operand&, int) { return sum; }
  static void convert(Four::Floats x, float, std::byte* to) { Four::store(reinterpret_cast<float*>(to), x); }
};

struct Bf16 : Fp32 {
  static constexpr int kWeightBytes = 8;
  static Weight weight(const std::byte* from) {
    std::uint16_t halves[4];
    __builtin_memcpy(halves, from, sizeof halves);
    const Four::Ints bits = {halves[0], halves[1], halves[2], halves[3]};
    return (Four::Floats)(bits << 16);
  }
};

struct Int8 {
  using Vector = Four;
  using Sums = Four::Ints;
  using Input = Four::Ints;
  using Weight = Four::Ints;
  static constexpr int kGroup = 1, kWeightBytes = 4, kPrefetchBytes = 512;
  static Weight weight(const std::byte* from) {
    std::int8_t w[4];
    __builtin_memcpy(w, from, sizeof w);
    return Weight{w[0], w[1], w[2], w[3]};
  }
  static Input broadcast(const std::byte* from) {
    std::int32_t x;
    __builtin_memcpy(&x, from, sizeof x);
    return Input{x, x, x, x};
  }
  static Sums add(Sums sum, Input x, Weight w) { return sum + x * w; }
  static Four::Floats to_floats(Sums sum, const Convolution& part, int channel, const Operand& in, int b) {
    const Four::Floats scale = Four::load(part.scale + channel) * Four::splat(in.scale[b]);
    return __builtin_convertvector(sum, Four::Floats) * scale;
  }
  static void convert(Four::Floats x, float factor, std::byte* to) {
    const Four::Floats magic = Four::splat(12582912.0f);  // 1.5 * 2^23 rounds to an integer
    const Four::Floats shifted = x * Four::splat(factor) + magic;
    const Four::Ints integers = factor == 0 ? Four::Ints{} : (Four::Ints)shifted - (Four::Ints)magic;
    __builtin_memcpy(to, &integers, sizeof integers);
  }
};

}  // namespace

const Kernels& kernels_portable(Precision precision) {
  static constexpr Kernels kFp32 = kernels_of<Fp32>(Precision::fp32, "portable"),
                           kBf16 = kernels_of<Bf16>(Precision::bf16, "portable"),
                           kInt8 = kernels_of<Int8>(Precision::int8, "portable");
  return precision == Precision::fp32 ? kFp32 : precision == Precision::bf16 ? kBf16 : kInt8;
}

}  // namespace keystep::native
