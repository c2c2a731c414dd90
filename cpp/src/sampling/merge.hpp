// The rows of a sample that the chunk before has decided, or has a say in, while it is denoised.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "keystep/engine.hpp"
#include "keystep/sampler.hpp"
#include "keystep/status.hpp"

namespace keystep {

/// Of one sample of `rows` x `width` values in network units. All memory is taken at construction.
class Merge {
 public:
  /// `mask`: the network's input [branches, rows, 1] that says which rows are given; nullptr: it has none.
  Merge(std::size_t rows, std::size_t width, Tensor* mask);

  bool takes_prefix() const noexcept { return mask_ != nullptr; }
  /// Whether the sampler's loop must ask; where not, it runs as if there were no such thing.
  bool active() const noexcept { return rule_ != Rule::none || takes_prefix(); }

  /// Nothing is known any more.
  void clear() noexcept;
  /// Room for what is known, to be written: rows x width, zero where nothing is.
  std::span<float> known() noexcept { return known_; }
  /// Weights of the rows, to be written, for `blend`.
  std::span<float> weights() noexcept { return weights_; }
  /// The next sample is drawn towards `known` by `weights`.
  void blend() noexcept { rule_ = Rule::blend; }
  /// The next sample has the rows `first` .. `first` + `count` - 1 of `known`, and the network is told.
  void give(std::size_t first, std::size_t count) noexcept;

  // ---- by the sampler's loop
  Status begin() noexcept;
  /// Before the network sees the sample.
  void before(std::span<float> sample) noexcept;
  /// After denoise step `index`, whose noise is `noise`.
  void after(const Sampler& sampler, int index, std::span<const float> noise,
             std::span<float> sample) noexcept;
  void end(std::span<float> sample) noexcept;

 private:
  enum class Rule { none, blend, give };
  void write_given(std::span<float> sample) const noexcept;

  const std::size_t rows_, width_;
  Tensor* const mask_;
  Rule rule_ = Rule::none;
  std::size_t first_ = 0, count_ = 0;  ///< rows given
  std::vector<float> known_, weights_, before_;
};

}  // namespace keystep
