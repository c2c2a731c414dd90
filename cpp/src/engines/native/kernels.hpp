// What the U-Net asks of an instruction set: four functions, and the layout of the weights they read.
//
// Activations are rows, x[t][channel], because every tap of a 1-D convolution is then a matrix product
//
//     y[t] += x[t * stride + offset] @ W[tap]        (channels_in) x (channels_in, channels_out)
//
// At batch 1 there are few rows (t < 64) and many weights, so what costs is reading W: each weight should be
// read once and meet every row while it is in a register. One tile, for a vector of L output channels (L:
// lanes):
//
//             W[tap], L x R output channels ->          R vectors of weights are loaded ..
//             +--------+--------+
//      x[0][c]| sum 0 0| sum 0 1|                        .. and each of N rows' inputs x[t][c] is broadcast
//      x[1][c]| sum 1 0| sum 1 1|                        and multiplied with all of them:
//      x[2][c]| sum 2 0| sum 2 1|                        N x R sums stay in registers while c runs
//             +--------+--------+                        over all input channels.
//
// N is the number of rows for which this tap meets no padding, so nothing is multiplied by zero and a tap
// that only ever meets padding is not even stored; R is chosen such that N x R sums fill the registers.
// Between taps the sums wait in the first-level cache. Weights lie in memory in exactly the order of these
// loops,
//
//     [chunk of R vectors][tap][input group][R][L x G weights]
//
// with G input channels at a time where the CPU multiplies groups of them (2 with bf16 or int16 pairs).
//
// Channels may be padded (see channels.hpp): the padding's weights, gains and offsets are zero, so its
// activations are, too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engines/native/precision.hpp"

namespace keystep::native {

inline constexpr int kMostVectors = 8;  ///< R is 1, 2, 4 or 8

/// Rows first .. last of the output read the input at t * stride + offset.
struct Tap {
  int offset, first, last;
};

/// One thread's part of a convolution over rows.
struct Convolution {
  const std::byte* weights;
  const float* bias;   ///< [L * vectors]
  const float* scale;  ///< [L * vectors], int8 only: weight = integer * scale
  int vectors;         ///< output channels / L
  int inputs;          ///< input channels, a multiple of L
  int length;          ///< output rows
  int stride;          ///< input rows per output row
  const Tap* taps;
  int tap_count;
};

/// The input of a convolution as it is multiplied: fp32, pairs of bf16, or (pairs of) int16; made by
/// `convert`.
struct Operand {
  std::byte* data;
  std::size_t row, batch;  ///< bytes from one row to the next, from one row of the batch to the next
  const float* scale;      ///< [batch rows], int8 only: activation = integer * scale
};

/// Where rows of fp32 lie: row t of batch row b begins at data + b * batch + t * row.
struct Rows {
  float* data;
  std::size_t row, batch;  ///< in floats
};

/// One thread's part of GroupNorm, Mish, FiLM and the residual, in place. Per channel: [L * vectors] floats.
struct Normalization {
  const float *gain, *offset;
  int vectors, length;
  int groups, width;                    ///< whole groups, of `width` channels each
  const float *film_scale, *film_bias;  ///< per row of the batch [batch][L * vectors]; null: 1, 0
  Rows residual;                        ///< added at last; null data: none
  float* scratch;                       ///< 2 x [L * vectors]
};

/// Of one instruction set and precision. All run on the calling thread, on its part of the channels.
struct Kernels {
  Precision precision;
  int lanes;         ///< L
  int group;         ///< G
  int weight_bytes;  ///< of one weight
  const char* name;

  /// R of the next chunk: `length` output rows, `vectors` still to do.
  int (*chunk)(int length, int vectors);
  /// fp32 rows to an operand. int8: multiplied by `factor` and rounded; a factor of 0 gives zeros.
  void (*convert)(const float* from, std::size_t channels, float factor, std::byte* to);
  /// `scratch`: batch x length x kMostVectors x L floats, aligned. `out` begins at this thread's channels.
  void (*convolve)(const Convolution& part, const Operand& in, int batch, float* scratch, const Rows& out);
  /// `peaks` [batch] becomes the bits of the greatest magnitude written (above those of infinity: NaN).
  void (*normalise)(const Normalization& part, int batch, const Rows& rows, std::uint32_t* peaks);
  /// The bits of the greatest magnitude among `count` values.
  std::uint32_t (*peak)(const float* values, std::size_t count);
  /// x -> x tanh(log(1 + e^x)), in place; `count` is a multiple of L.
  void (*mish)(float* values, std::size_t count);
};

/// Of each instruction set, for a precision that it can multiply.
const Kernels& kernels_portable(Precision precision);
const Kernels& kernels_avx2(Precision precision);
const Kernels& kernels_avx512(Precision precision);
const Kernels& kernels_avx512_bf16();
const Kernels& kernels_avx512_vnni();

}  // namespace keystep::native
