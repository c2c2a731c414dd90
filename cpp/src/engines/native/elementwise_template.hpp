// GroupNorm, Mish, FiLM and residual for every instruction set; see kernel_template.hpp, which includes this
// file.
#pragma once

#include "engines/native/kernels.hpp"

namespace keystep::native {
namespace {

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

}  // namespace
}  // namespace keystep::native
