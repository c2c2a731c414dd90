#include "policy/observation_inputs.hpp"

#include <algorithm>
#include <cmath>

namespace keystep {
namespace {

std::string size_text(int height, int width) {
  return std::to_string(height) + " x " + std::to_string(width) + " x 3 bytes";
}

}  // namespace

ObservationInputs::ObservationInputs(const ObservationSpec& spec,
                                     const std::map<std::string, Normalization>& normalization,
                                     const std::function<float*(const std::string&)>& target)
    : spec_(spec), state_(target("state")) {
  if (state_ != nullptr) {
    state_normalizer_.emplace(normalization.at("observation.state"), spec.state_names.size());
  }
  for (const ImageSpec& image : spec.images) {
    resizers_.emplace_back(image.height, image.width);
    images_.push_back(target("images." + image.camera));
    image_normalizers_.emplace_back();
    if (images_.back() == nullptr) continue;
    image_normalizers_.back().emplace(normalization.at("observation.images." + image.camera));
  }
}

bool ObservationInputs::image_fits(const Observation& seen, std::size_t camera) const noexcept {
  const ImageView& image = seen.images[camera];
  const ImageSpec& wanted = spec_.images[camera];
  if (image.data == nullptr) return false;
  if (!wanted.resize) return image.height == wanted.height && image.width == wanted.width;
  return std::min(image.height, image.width) >= 1 && std::max(image.height, image.width) <= kMaxImageExtent;
}

/// The tick's test, without a string: whatever it refuses, find_fault names.
Status ObservationInputs::check(const Observation& seen, const char* name,
                                std::string& error) const noexcept {
  bool good = state_ == nullptr || seen.state.size() == spec_.state_names.size();
  if (state_ != nullptr) {
    for (const float value : seen.state) good &= std::isfinite(value);
  }
  for (std::size_t i = 0; i < images_.size() && good; ++i) {
    if (images_[i] == nullptr) continue;
    good = seen.images.size() == spec_.images.size() && image_fits(seen, i);
  }
  if (good) return Status::ok;
  try {
    error = find_fault(seen, name);
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return Status::bad_observation;
}

std::string ObservationInputs::find_fault(const Observation& seen, const std::string& name) const {
  if (state_ != nullptr && seen.state.size() != spec_.state_names.size()) {
    return expected(name + ".state", std::to_string(spec_.state_names.size()) + " values",
                    std::to_string(seen.state.size()));
  }
  for (std::size_t i = 0; state_ != nullptr && i < seen.state.size(); ++i) {
    if (std::isfinite(seen.state[i])) continue;
    return expected(name + ".state[" + std::to_string(i) + "] (" + spec_.state_names[i] + ")",
                    "a finite value", std::to_string(seen.state[i]));
  }
  const bool wants_images = std::any_of(images_.begin(), images_.end(), [](auto* p) { return p; });
  if (wants_images && seen.images.size() != spec_.images.size()) {
    return expected(name + ".images", std::to_string(spec_.images.size()) + " images",
                    std::to_string(seen.images.size()));
  }
  for (std::size_t i = 0; i < images_.size(); ++i) {
    if (images_[i] == nullptr || image_fits(seen, i)) continue;
    const ImageView& image = seen.images[i];
    const ImageSpec& wanted = spec_.images[i];
    return expected(name + ".images." + wanted.camera,
                    wanted.resize ? "1..16384 pixels a side" : size_text(wanted.height, wanted.width),
                    image.data == nullptr ? "no data" : size_text(image.height, image.width));
  }
  return "";
}

void ObservationInputs::normalize(const Observation& seen) {
  if (state_ != nullptr) state_normalizer_->normalize(seen.state, state_);
  for (std::size_t i = 0; i < images_.size(); ++i) {
    if (images_[i] == nullptr) continue;
    image_normalizers_[i]->normalize(resizers_[i].resize(seen.images[i]), images_[i]);
  }
}

Status ObservationInputs::fill(const Observation& seen, const char* name, std::string& error) noexcept {
  const Status status = check(seen, name, error);
  if (status != Status::ok) return status;
  try {
    normalize(seen);
    return Status::ok;
  } catch (...) {
    error.clear();  // no memory to resize in: the status still tells
    return Status::bad_observation;
  }
}

}  // namespace keystep
