#include "policy/feature_kind.hpp"

#include <algorithm>

#include "policy/normalizer.hpp"
#include "policy/resizer.hpp"

namespace keystep {
namespace {

/// Vectors, and images of one channel: values as they are, in the network's order.
class FloatReader final : public FrameReader {
 public:
  explicit FloatReader(const FeatureSpec& spec)
      : normalizer_(spec.normalization, statistics_width(spec)), size_(1) {
    for (const std::int64_t extent : spec.shape) size_ *= static_cast<std::size_t>(extent);
  }
  void normalize(const void* frame, float* output) const noexcept override {
    normalizer_.normalize({static_cast<const float*>(frame), size_}, output);
  }

 private:
  VectorNormalizer normalizer_;
  std::size_t size_;
};

class RgbReader final : public FrameReader {
 public:
  explicit RgbReader(const FeatureSpec& spec)
      : height_(static_cast<int>(spec.shape[0])),
        width_(static_cast<int>(spec.shape[1])),
        resizer_(height_, width_),
        normalizer_(spec.normalization) {}
  const void* sized(const FeatureView& frame) override {
    return resizer_.resize(view(frame.data, frame.shape[0], frame.shape[1])).data;
  }
  void normalize(const void* frame, float* output) const noexcept override {
    normalizer_.normalize(view(frame, height_, width_), output);
  }

 private:
  static ImageView view(const void* pixels, std::int64_t height, std::int64_t width) noexcept {
    return {static_cast<const std::uint8_t*>(pixels), static_cast<int>(height), static_cast<int>(width)};
  }
  int height_, width_;
  Resizer resizer_;
  ImageNormalizer normalizer_;
};

template <class Reader>
std::unique_ptr<FrameReader> make(const FeatureSpec& spec) {
  return std::make_unique<Reader>(spec);
}

}  // namespace

const std::vector<FeatureKind>& feature_kinds() {
  static const std::vector<FeatureKind> kKinds = {
      {"vector", DType::float32, "[S]", 1, 0, "names", true, &make<FloatReader>},
      {"rgb", DType::uint8, "[height, width, 3]", 3, 3, "resize", true, &make<RgbReader>},
      {"depth", DType::float32, "[height, width]", 2, 1, nullptr, false, &make<FloatReader>},
  };
  return kKinds;
}

const FeatureKind* find_kind(const std::string& name) noexcept {
  const auto found =
      std::ranges::find_if(feature_kinds(), [&](const FeatureKind& kind) { return name == kind.name; });
  return found == feature_kinds().end() ? nullptr : &*found;
}

const FeatureKind& kind_of(const FeatureSpec& spec) noexcept { return *find_kind(spec.kind); }

std::size_t statistics_width(const FeatureSpec& spec) noexcept {
  const int channels = kind_of(spec).channels;
  return static_cast<std::size_t>(channels == 0 ? spec.shape[0] : channels);
}

std::vector<std::int64_t> network_frame(const FeatureSpec& spec) {
  const int channels = kind_of(spec).channels;
  if (channels == 0) return spec.shape;
  return {channels, spec.shape[0], spec.shape[1]};
}

std::vector<std::int64_t> network_shape(const FeatureSpec& spec, int history) {
  std::vector<std::int64_t> shape = network_frame(spec);
  if (history > 1) shape.insert(shape.begin(), history);
  shape.insert(shape.begin(), 1);
  return shape;
}

}  // namespace keystep
