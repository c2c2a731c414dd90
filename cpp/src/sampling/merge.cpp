#include "sampling/merge.hpp"

#include <algorithm>

namespace keystep {

Merge::Merge(std::size_t rows, std::size_t width, Tensor* mask)
    : rows_(rows), width_(width), mask_(mask), known_(rows * width), weights_(rows), before_(rows * width) {}

void Merge::clear() noexcept {
  rule_ = Rule::none;
  first_ = count_ = 0;
  std::ranges::fill(known_, 0.0f);
  std::ranges::fill(weights_, 0.0f);
}

void Merge::give(std::size_t first, std::size_t count) noexcept {
  rule_ = Rule::give;
  first_ = first;
  count_ = count;
}

/// The mask is the same for all steps, and for both rows of guidance.
Status Merge::begin() noexcept {
  if (mask_ == nullptr) return Status::ok;
  const std::span<float> mask(static_cast<float*>(mask_->data), mask_->spec.elements());
  std::ranges::fill(mask, 0.0f);
  for (std::size_t branch = 0; branch < mask.size(); branch += rows_) {
    std::ranges::fill(mask.subspan(branch + first_, count_), 1.0f);
  }
  return mask_->upload();
}

void Merge::write_given(std::span<float> sample) const noexcept {
  std::copy_n(known_.data() + first_ * width_, count_ * width_, sample.data() + first_ * width_);
}

void Merge::before(std::span<float> sample) noexcept {
  if (rule_ == Rule::give) write_given(sample);
  if (rule_ == Rule::blend) std::ranges::copy(sample, before_.begin());
}

void Merge::after(const Sampler& sampler, int index, std::span<const float> noise,
                  std::span<float> sample) noexcept {
  if (rule_ == Rule::blend) sampler.merge(index, weights_, known_, before_, noise, sample);
}

void Merge::end(std::span<float> sample) noexcept {
  if (rule_ == Rule::give) write_given(sample);
}

}  // namespace keystep
