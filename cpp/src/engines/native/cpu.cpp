#include "engines/native/cpu.hpp"

#include <array>

#include "keystep/status.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace keystep::native {
namespace {

constexpr std::array kIsas = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::avx512_vnni};
constexpr std::array kPrecisions = {Precision::fp32, Precision::bf16, Precision::int8};

std::string list_of(const auto& values) {
  std::string list;
  for (const auto value : values) list += (list.empty() ? "" : " | ") + std::string(name(value));
  return list;
}

#if defined(__x86_64__)
struct Features {
  bool avx2 = false, avx512 = false, bf16 = false, vnni = false;
};

/// Whether the operating system saves these registers (bits of XCR0).
bool saved(unsigned registers) noexcept {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & registers) == registers;
}

/// From the CPU itself: __builtin_cpu_supports is the compiler's runtime, and that of Zig always says no.
Features ask_cpu() noexcept {
  constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
  constexpr unsigned kAvx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return {};
  const bool fma = (c & bit_FMA) != 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return {};
  Features found;
  found.avx2 = fma && (b & bit_AVX2) != 0 && saved(kYmm);
  found.avx512 = found.avx2 && (b & kAvx512) == kAvx512 && saved(kZmm);
  found.vnni = found.avx512 && (c & bit_AVX512VNNI) != 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) found.bf16 = found.avx512 && (a & bit_AVX512BF16) != 0;
  return found;
}
#endif

}  // namespace

const char* name(Isa isa) noexcept {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::avx512_vnni:
      return "avx512_vnni";
  }
  return "unknown";
}

const char* name(Precision precision) noexcept {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::bf16:
      return "bf16";
    case Precision::int8:
      return "int8";
  }
  return "unknown";
}

Precision precision_named(const std::string& text) {
  for (const Precision precision : kPrecisions) {
    if (text == name(precision)) return precision;
  }
  throw ArgumentError(expected("precision", list_of(kPrecisions), "'" + text + "'"));
}

bool supported(Isa isa) noexcept {
  if (isa == Isa::portable) return true;
#if defined(__x86_64__)
  static const Features cpu = ask_cpu();
  if (isa == Isa::avx2) return cpu.avx2;
  if (isa == Isa::avx512) return cpu.avx512;
  if (isa == Isa::avx512_bf16) return cpu.bf16;
  if (isa == Isa::avx512_vnni) return cpu.vnni;
#endif
  return false;
}

std::optional<Isa> isa_named(const std::string& text) {
  if (text.empty()) return {};
  std::string here;
  for (const Isa isa : kIsas) {
    if (supported(isa)) here += (here.empty() ? "" : " | ") + std::string(name(isa));
  }
  for (const Isa isa : kIsas) {
    if (text != name(isa)) continue;
    if (!supported(isa))
      throw ArgumentError(expected("isa", here + " (what this CPU has)", "'" + text + "'"));
    return isa;
  }
  throw ArgumentError(expected("isa", list_of(kIsas), "'" + text + "'"));
}

const Kernels& kernels_for([[maybe_unused]] std::optional<Isa> isa, Precision precision) {
#if defined(__x86_64__)
  const auto may_use = [&](Isa wanted) {
    if (!isa) return supported(wanted);
    const bool contained = wanted <= Isa::avx512 && wanted <= *isa;  // each of these contains the ones before
    return contained || wanted == *isa;
  };
  if (precision == Precision::bf16 && may_use(Isa::avx512_bf16)) return kernels_avx512_bf16();
  if (precision == Precision::int8 && may_use(Isa::avx512_vnni)) return kernels_avx512_vnni();
  if (may_use(Isa::avx512)) return kernels_avx512(precision);
  if (may_use(Isa::avx2)) return kernels_avx2(precision);
#endif
  return kernels_portable(precision);
}

}  // namespace keystep::native
