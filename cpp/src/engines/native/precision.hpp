// How a U-Net's weights are kept and multiplied.
#pragma once

#include <cstdint>

namespace keystep::native {

/// fp32: as trained. bf16: weights in bfloat16; activations, too, where the CPU multiplies pairs of them.
/// int8: one scale per output channel; activations as integers of up to 16 bits with one scale per row of the
/// batch, found anew at every convolution. Sums are fp32, or exact in int32.
enum class Precision : std::uint8_t { fp32, bf16, int8 };

/// Every set may use all of the ones it contains: avx512_bf16 and avx512_vnni contain avx512, that avx2.
enum class Isa : std::uint8_t { portable, avx2, avx512, avx512_bf16, avx512_vnni };

}  // namespace keystep::native
