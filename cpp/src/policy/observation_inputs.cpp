#include "policy/observation_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "support/finite.hpp"

namespace keystep {
namespace {

std::size_t product(const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

std::span<const float> floats_of(const FeatureView& view, std::size_t count) noexcept {
  return {static_cast<const float*>(view.data), count};
}

/// Of the feature's own size, without data.
FeatureView own_view(const FeatureSpec& spec) {
  FeatureView view;
  view.dtype = spec.dtype;
  view.axes = static_cast<int>(spec.shape.size());
  std::ranges::copy(spec.shape, view.shape.begin());
  return view;
}

/// An image that is resized may have any height and width.
bool sizes_fit(const FeatureView& view, const FeatureView& own) noexcept {
  const auto within = [](std::int64_t extent) { return extent >= 1 && extent <= kMaxImageExtent; };
  return within(view.shape[0]) && within(view.shape[1]) && view.shape[2] == own.shape[2];
}

/// "3 values", "2 x 3 x 3 bytes"
std::string size_text(std::span<const std::int64_t> shape, DType dtype) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text + (dtype == DType::uint8 ? " bytes" : " values");
}

}  // namespace

std::vector<FeatureSpec> single_frames(std::vector<FeatureSpec> features) {
  for (FeatureSpec& feature : features) feature.history = 1;
  return features;
}

// ---- one feature

/// Where the frame of observation `frame` is kept.
std::byte* ObservationInputs::Input::kept(std::uint64_t frame) noexcept {
  return ring.data() + frame % static_cast<std::uint64_t>(spec.history) * bytes;
}

bool ObservationInputs::Input::fits(const FeatureView& view) const noexcept {
  if (view.data == nullptr || view.dtype != own.dtype || view.axes != own.axes) return false;
  if (view.shape != own.shape && !(spec.resize && sizes_fit(view, own))) return false;
  return own.dtype != DType::float32 || all_finite(floats_of(view, elements));
}

std::string ObservationInputs::Input::fault(const FeatureView& view, const std::string& field) const {
  if (fits(view)) return "";
  const std::string wanted = spec.resize ? "height x width x " + std::to_string(spec.shape.back()) +
                                               " of 1.." + std::to_string(kMaxImageExtent) + " pixels a side"
                                         : size_text(spec.shape, spec.dtype);
  if (view.data == nullptr) return expected(field, wanted, "no data");
  if (view.axes < 0 || view.axes > std::ssize(view.shape)) {
    return expected(field, wanted, std::to_string(view.axes) + " axes");
  }
  if (view.dtype != spec.dtype) return expected(field, name(spec.dtype), name(view.dtype));
  const std::span extents(view.shape.data(), static_cast<std::size_t>(view.axes));
  if (!std::ranges::equal(extents, spec.shape)) {
    return expected(field, wanted,
                    view.axes == 1 ? std::to_string(extents[0]) : size_text(extents, spec.dtype));
  }
  const std::span<const float> values = floats_of(view, elements);
  const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
  const auto at = bad - values.begin();
  std::string place = std::to_string(at);
  if (view.axes == 2) place = std::to_string(at / view.shape[1]) + ", " + std::to_string(at % view.shape[1]);
  const std::string of = spec.names.empty() ? "" : " (" + spec.names[static_cast<std::size_t>(at)] + ")";
  return expected(field + "[" + place + "]" + of, "a finite value", std::to_string(*bad));
}

void ObservationInputs::Input::fill(const FeatureView& view, std::uint64_t noted, bool is_noted) {
  const auto history = static_cast<std::uint64_t>(spec.history);
  const std::uint64_t after = is_noted ? noted : noted + 1;  // the newest frame's number, and one more
  for (std::uint64_t i = 0; i < history; ++i) {
    const bool newest = i + 1 == history;
    const bool given = !keeps() || noted == 0 || (newest && !is_noted);
    // Before the first observation there is none: `note` and this both let the first stand for it.
    const std::uint64_t frame = after + i < history ? 0 : after + i - history;
    reader->normalize(given ? reader->sized(view) : kept(frame), target + i * size);
  }
}

// ---- all of them

ObservationInputs::ObservationInputs(const std::vector<FeatureSpec>& features,
                                     const std::function<float*(const std::string&)>& target) {
  for (const FeatureSpec& spec : features) {
    const std::size_t elements = product(spec.shape), bytes = elements * size_of(spec.dtype);
    inputs_.push_back({target(spec.name()),
                       own_view(spec),
                       elements,
                       spec,
                       nullptr,
                       bytes,
                       product(network_frame(spec)),
                       {}});
    Input& input = inputs_.back();
    if (input.target == nullptr) continue;
    input.reader = kind_of(spec).make_reader(spec);
    if (spec.history > 1) input.ring.resize(bytes * static_cast<std::size_t>(spec.history));
    takes_any_ = true;
    keeps_any_ |= input.keeps();
  }
}

/// The tick's test, without a string: whatever it refuses, find_fault names.
Status ObservationInputs::check(const Observation& seen, const char* name,
                                std::string& error) const noexcept {
  bool good = !takes_any_ || seen.features.size() == inputs_.size();
  for (std::size_t i = 0; i < inputs_.size() && good; ++i) {
    if (inputs_[i].target != nullptr) good = inputs_[i].fits(seen.features[i]);
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
  if (seen.features.size() != inputs_.size()) {
    std::string keys;
    for (const Input& input : inputs_) keys += (keys.empty() ? "" : ", ") + input.spec.key;
    return expected(name, std::to_string(inputs_.size()) + " features (" + keys + ")",
                    std::to_string(seen.features.size()));
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].target == nullptr) continue;
    const std::string fault = inputs_[i].fault(seen.features[i], name + "." + inputs_[i].spec.name());
    if (!fault.empty()) return fault;
  }
  return "";
}

Status ObservationInputs::note(const Observation& seen) noexcept {
  if (!keeps_any_) return Status::ok;
  try {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      Input& input = inputs_[i];
      if (!input.keeps()) continue;
      const void* frame = input.reader->sized(seen.features[i]);
      std::memcpy(input.kept(noted_), frame, input.bytes);
    }
  } catch (...) {
    return Status::bad_observation;  // no memory to resize in
  }
  ++noted_;
  return Status::ok;
}

Status ObservationInputs::fill(const Observation& seen, bool is_noted) noexcept {
  try {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].target != nullptr) inputs_[i].fill(seen.features[i], noted_, is_noted);
    }
    return Status::ok;
  } catch (...) {
    return Status::bad_observation;  // no memory to resize in: the status still tells
  }
}

}  // namespace keystep
