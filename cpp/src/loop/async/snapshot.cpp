#include "loop/async/snapshot.hpp"

#include <cstring>

namespace keystep {
namespace {

std::size_t bytes_of(const FeatureView& view) noexcept {
  std::size_t bytes = size_of(view.dtype);
  for (int axis = 0; axis < view.axes; ++axis) {
    bytes *= static_cast<std::size_t>(view.shape[static_cast<std::size_t>(axis)]);
  }
  return bytes;
}

}  // namespace

OwnedObservation::OwnedObservation(const std::vector<FeatureSpec>& features) : views_(features.size()) {
  for (const FeatureSpec& feature : features) {
    std::size_t bytes = size_of(feature.dtype);
    for (const std::int64_t extent : feature.shape) bytes *= static_cast<std::size_t>(extent);
    bytes_.emplace_back(bytes);
  }
}

OwnedObservation::OwnedObservation(const OwnedObservation& other)
    : bytes_(other.bytes_), views_(other.views_), timestamp_us_(other.timestamp_us_), now_us_(other.now_us_) {
  point();
}

OwnedObservation& OwnedObservation::operator=(const OwnedObservation& other) {
  if (this == &other) return *this;
  bytes_ = other.bytes_;
  views_ = other.views_;
  timestamp_us_ = other.timestamp_us_;
  now_us_ = other.now_us_;
  point();
  return *this;
}

void OwnedObservation::copy(const Observation& seen, const std::vector<bool>& taken) {
  timestamp_us_ = seen.timestamp_us;
  now_us_ = seen.now_us;
  for (std::size_t i = 0; i < views_.size(); ++i) {
    views_[i] = taken[i] ? seen.features[i] : FeatureView();
    if (views_[i].data == nullptr) continue;
    const std::size_t bytes = bytes_of(views_[i]);
    if (bytes_[i].size() < bytes) bytes_[i].resize(bytes);
    std::memcpy(bytes_[i].data(), seen.features[i].data, bytes);
  }
  point();
}

void OwnedObservation::point() noexcept {
  for (std::size_t i = 0; i < views_.size(); ++i) {
    if (views_[i].data != nullptr) views_[i].data = bytes_[i].data();
  }
}

}  // namespace keystep
