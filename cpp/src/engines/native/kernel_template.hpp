// The kernels, written once for every instruction set: see kernels.hpp for the tiling.
//
// Each kernels_*.cpp includes this file with its own compiler flags. Everything is in an unnamed namespace
// and nothing of the standard library is called, so that no function compiled for a newer CPU can be linked
// into code for an older one.
//
// `Vector` has kLanes, kRegisters, Floats, Ints (types with the operators of GCC's and Clang's vector
// extensions) and load, store, splat, fma. `Dot` says how inputs and weights are multiplied: Sums, Input,
// Weight, kGroup (input channels at once), kWeightBytes (of a vector), kPrefetchBytes, and weight, broadcast,
// add, to_floats, convert.
#pragma once

#include "engines/native/elementwise_template.hpp"

namespace keystep::native {
namespace {

// ---- convolution

constexpr int kChunks[] = {8, 4, 2, 1};
constexpr std::size_t kInputBytes = 4;  // of what is broadcast: one fp32 or int32, or a pair of bf16 or int16

/// Rows whose sums, for R vectors of channels, stay in registers beside R weights and one input.
template <class Vector>
constexpr int rows_in_registers(int r) {
  return (Vector::kRegisters - 1) / r - 1;
}

template <class Vector>
int chunk(int length, int vectors) {
  for (const int r : kChunks) {
    if (r <= vectors && length <= rows_in_registers<Vector>(r)) return r;
  }
  return 1;
}

/// sums[n][r] += x[n] @ W over all input channels. `row`: bytes between the N inputs.
template <class Dot, int R, int N>
void multiply(typename Dot::Sums* sums, const std::byte* weights, const std::byte* input, std::size_t row,
              int groups) {
  constexpr std::size_t kBytes = Dot::kWeightBytes;
  typename Dot::Sums sum[N][R];
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[n][r] = sums[n * R + r];
  }
  for (int g = 0; g < groups; ++g) {
    typename Dot::Weight weight[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      weight[r] = Dot::weight(weights + r * kBytes);
      if (kBytes * r % 64 == 0) __builtin_prefetch(weights + r * kBytes + Dot::kPrefetchBytes);
    }
#pragma GCC unroll 32
    for (int n = 0; n < N; ++n) {
      const typename Dot::Input x = Dot::broadcast(input + n * row);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[n][r] = Dot::add(sum[n][r], x, weight[r]);
    }
    weights += R * kBytes;
    input += kInputBytes;
  }
#pragma GCC unroll 32
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[n * R + r] = sum[n][r];
  }
}

template <class Dot>
using Multiply = void (*)(typename Dot::Sums*, const std::byte*, const std::byte*, std::size_t, int);

constexpr int kMostRows = 32;

/// multiply<Dot, R, n> for n = 1 .. rows_in_registers(R).
template <class Dot, int R>
struct Multiplies {
  Multiply<Dot> of_rows[kMostRows + 1] = {};
  template <int N>
  constexpr void fill() {
    of_rows[N] = &multiply<Dot, R, N>;
    if constexpr (N > 1) fill<N - 1>();
  }
  static_assert(rows_in_registers<typename Dot::Vector>(R) <= kMostRows);
  constexpr Multiplies() { fill<rows_in_registers<typename Dot::Vector>(R)>(); }
};

template <class Dot, int R>
void convolve_chunk(const Convolution& part, const std::byte* weights, const Operand& in, int batch,
                    typename Dot::Sums* sums) {
  static constexpr Multiplies<Dot, R> kMultiplies;
  constexpr int kMost = rows_in_registers<typename Dot::Vector>(R);
  const int groups = part.inputs / Dot::kGroup;
  for (int i = 0; i < batch * part.length * R; ++i) sums[i] = typename Dot::Sums{};
  for (int k = 0; k < part.tap_count; ++k) {
    const Tap& tap = part.taps[k];
    const int rows = tap.last - tap.first + 1, tiles = (rows + kMost - 1) / kMost;
    for (int b = 0; b < batch; ++b) {
      for (int tile = 0; tile < tiles; ++tile) {
        const int t = tap.first + rows * tile / tiles, end = tap.first + rows * (tile + 1) / tiles;
        const std::byte* x = in.data + b * in.batch + (t * part.stride + tap.offset) * in.row;
        kMultiplies.of_rows[end - t](sums + (b * part.length + t) * R, weights, x, in.row * part.stride,
                                     groups);
      }
    }
    weights += static_cast<std::size_t>(groups) * R * Dot::kWeightBytes;
  }
}

template <class Dot>
void convolve(const Convolution& part, const Operand& in, int batch, float* scratch, const Rows& out) {
  using Vector = typename Dot::Vector;
  auto* sums = reinterpret_cast<typename Dot::Sums*>(scratch);
  const std::size_t chunk_bytes =
      static_cast<std::size_t>(part.tap_count) * (part.inputs / Dot::kGroup) * Dot::kWeightBytes;
  const std::byte* weights = part.weights;
  for (int v = 0, r = 0; v < part.vectors; v += r, weights += chunk_bytes * r) {
    r = chunk<Vector>(part.length, part.vectors - v);
    if constexpr (rows_in_registers<Vector>(8) > 0) {
      if (r == 8) convolve_chunk<Dot, 8>(part, weights, in, batch, sums);
    }
    if (r == 4) convolve_chunk<Dot, 4>(part, weights, in, batch, sums);
    if (r == 2) convolve_chunk<Dot, 2>(part, weights, in, batch, sums);
    if (r == 1) convolve_chunk<Dot, 1>(part, weights, in, batch, sums);
    for (int b = 0; b < batch; ++b) {
      for (int t = 0; t < part.length; ++t) {
        float* to = out.data + b * out.batch + t * out.row;
        for (int i = 0; i < r; ++i) {
          const int channel = (v + i) * Vector::kLanes;
          const auto sum = Dot::to_floats(sums[(b * part.length + t) * r + i], part, channel, in, b);
          Vector::store(to + channel, sum + Vector::load(part.bias + channel));
        }
      }
    }
  }
}

template <class Dot>
void convert(const float* from, std::size_t channels, float factor, std::byte* to) {
  using Vector = typename Dot::Vector;
  constexpr std::size_t kBytes = 4 * Vector::kLanes / Dot::kGroup;
  for (std::size_t c = 0; c < channels; c += Vector::kLanes, to += kBytes) {
    Dot::convert(Vector::load(from + c), factor, to);
  }
}

// ---- all of one precision

template <class Dot>
constexpr Kernels kernels_of(Precision precision, const char* name) {
  using Vector = typename Dot::Vector;
  return {.precision = precision,
          .lanes = Vector::kLanes,
          .group = Dot::kGroup,
          .weight_bytes = Dot::kWeightBytes / (Vector::kLanes * Dot::kGroup),
          .name = name,
          .chunk = &chunk<Vector>,
          .convert = &convert<Dot>,
          .convolve = &convolve<Dot>,
          .normalise = &normalise<Vector>,
          .peak = &peak<Vector>,
          .mish = &mish<Vector>};
}

}  // namespace
}  // namespace keystep::native
