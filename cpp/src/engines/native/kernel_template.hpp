// The kernels, written once for every instruction set: see kernels.hpp for the tiling.
//
// Each kernels_*.cpp includes this file with its own compiler flags. Everything is in an unnamed namespace
// and nothing of the standard library is called, so that no function compiled for a newer CPU can be linked
// into code for an older one.
//
// `Vector` has kLanes, Floats, Ints (types with the operators of GCC's and Clang's vector extensions) and
// load, store, splat, fma. `Dot` says how inputs and weights are multiplied: Sums, Input, Weight, kGroup
// (input channels at once), kWeightBytes, and weight, broadcast, add, to_floats, convert.
#pragma once

#include "engines/native/kernels.hpp"

namespace keystep::native {
namespace {

// ---- convolution

constexpr int kChunks[] = {8, 4, 2, 1};

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
    input += 4;
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

// ---- element-wise

/// e^x for |x| <= 87: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (the coefficients of Cephes' expf, 2
/// ulp).
template <class Vector>
typename Vector::Floats exponential(typename Vector::Floats x) {
  using Floats = typename Vector::Floats;
  using Ints = typename Vector::Ints;
  const auto c = [](float value) { return Vector::splat(value); };
  const Floats magic = c(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the lowest bits
  const Floats shifted = Vector::fma(x, c(1.44269504f), magic);
  const Floats n = shifted - magic;
  const Floats r = Vector::fma(n, c(2.12194440e-4f), Vector::fma(n, c(-0.693359375f), x));
  constexpr float kPolynomial[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                   0.5f};
  Floats p = c(1.9875691500e-4f);
  for (const float next : kPolynomial) p = Vector::fma(p, r, c(next));
  p = Vector::fma(p, r * r, r + c(1.0f));
  return (Floats)((Ints)p + (((Ints)shifted - (Ints)magic) << 23));
}

/// tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), which is 1 in single precision from x = 20 on, and
/// 0 below -87. NaN and infinities come out as x times that.
template <class Vector>
typename Vector::Floats mish_of(typename Vector::Floats x) {
  using Floats = typename Vector::Floats;
  const Floats most = Vector::splat(20.0f), least = Vector::splat(-87.0f);
  const Floats capped = x > most ? most : (x < least ? least : x);
  const Floats e = x < least ? Floats{} : exponential<Vector>(capped);
  const Floats n = e * (e + Vector::splat(2.0f));
  return x * (n / (n + Vector::splat(2.0f)));
}

template <class Vector>
void mish(float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; i += Vector::kLanes) {
    Vector::store(values + i, mish_of<Vector>(Vector::load(values + i)));
  }
}

/// Magnitudes ordered by their bits, so that NaN is the greatest.
template <class Vector>
typename Vector::Ints greater(typename Vector::Ints peak, typename Vector::Floats x) {
  using Ints = typename Vector::Ints;
  const Ints bits = (Ints)x & 0x7fffffff;
  return bits > peak ? bits : peak;
}

template <class Vector>
std::uint32_t greatest(typename Vector::Ints peak) {
  std::int32_t most = 0;
  for (int i = 0; i < Vector::kLanes; ++i) most = peak[i] > most ? peak[i] : most;
  return static_cast<std::uint32_t>(most);
}

template <class Vector>
std::uint32_t peak(const float* values, std::size_t count) {
  typename Vector::Ints most = {};
  std::size_t i = 0;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes)
    most = greater<Vector>(most, Vector::load(values + i));
  std::uint32_t rest = greatest<Vector>(most);
  for (; i < count; ++i) {
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, values[i]) & 0x7fffffffu;
    rest = bits > rest ? bits : rest;
  }
  return rest;
}

// ---- GroupNorm, Mish, FiLM, residual

/// The mean of each group's `sums` per channel, written over them for each of its channels.
inline void average_groups(const Normalization& part, float* sums) {
  const float count = static_cast<float>(part.width) * static_cast<float>(part.length);
  for (int g = 0; g < part.groups; ++g) {
    float* group = sums + g * part.width;
    float sum = 0;
    for (int c = 0; c < part.width; ++c) sum += group[c];
    for (int c = 0; c < part.width; ++c) group[c] = sum / count;
  }
}

/// GroupNorm as y = x * factor + shift per channel: scratch becomes [factor][shift] of each channel.
template <class Vector>
void normalise_statistics(const Normalization& part, const float* rows, std::size_t row) {
  using Floats = typename Vector::Floats;
  constexpr float kEpsilon = 1e-5f;
  const int channels = part.vectors * Vector::kLanes, real = part.groups * part.width;
  float *factor = part.scratch, *mean = part.scratch + channels;
  for (int c = 0; c < channels; c += Vector::kLanes) {
    Floats sum = {};
    for (int t = 0; t < part.length; ++t) sum += Vector::load(rows + t * row + c);
    Vector::store(mean + c, sum);
  }
  average_groups(part, mean);
  for (int c = 0; c < channels; c += Vector::kLanes) {
    const Floats center = Vector::load(mean + c);
    Floats sum = {};
    for (int t = 0; t < part.length; ++t) {
      const Floats distance = Vector::load(rows + t * row + c) - center;
      sum = Vector::fma(distance, distance, sum);
    }
    Vector::store(factor + c, sum);
  }
  average_groups(part, factor);
  for (int c = 0; c < real; ++c) {
    // A variance that overflows must not end in a harmless 0: infinity less itself is NaN.
    const float overflow = factor[c] - factor[c];
    factor[c] = part.gain[c] / __builtin_sqrtf(factor[c] + kEpsilon) + overflow;
    mean[c] = part.offset[c] - mean[c] * factor[c];
  }
  for (int c = real; c < channels; ++c) factor[c] = mean[c] = 0;
}

template <class Vector>
void normalise(const Normalization& part, int batch, const Rows& rows, std::uint32_t* peaks) {
  using Floats = typename Vector::Floats;
  const int channels = part.vectors * Vector::kLanes;
  for (int b = 0; b < batch; ++b) {
    float* x = rows.data + b * rows.batch;
    normalise_statistics<Vector>(part, x, rows.row);
    typename Vector::Ints most = {};
    for (int c = 0; c < channels; c += Vector::kLanes) {
      const Floats factor = Vector::load(part.scratch + c), shift = Vector::load(part.scratch + channels + c);
      Floats scale = Vector::splat(1.0f), bias = {};
      if (part.film_scale != nullptr) scale = Vector::load(part.film_scale + b * channels + c);
      if (part.film_bias != nullptr) bias = Vector::load(part.film_bias + b * channels + c);
      for (int t = 0; t < part.length; ++t) {
        float* at = x + t * rows.row + c;
        const Floats y = mish_of<Vector>(Vector::fma(Vector::load(at), factor, shift));
        Floats result = Vector::fma(y, scale, bias);
        if (part.residual.data != nullptr) {
          result += Vector::load(part.residual.data + b * part.residual.batch + t * part.residual.row + c);
        }
        Vector::store(at, result);
        most = greater<Vector>(most, result);
      }
    }
    peaks[b] = greatest<Vector>(most);
  }
}

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
