// A runtime's two ends in shared memory.
#include <array>
#include <utility>

#include "keystep/shared_arrays.hpp"

namespace keystep {
namespace {

std::string shown(const std::vector<SharedField>& fields) {
  std::string text;
  for (const SharedField& field : fields) {
    text += (text.empty() ? "" : ", ") + field.name + " " + name(field.dtype) + " (";
    for (const std::int64_t extent : field.shape) text += std::to_string(extent) + ",";
    text.back() = ')';
  }
  return text;
}

void require_fields(const char* who, const std::vector<SharedField>& wanted, const SharedArrays& arrays) {
  if (arrays.fields() == wanted) return;
  throw ArgumentError(expected(who, shown(wanted), shown(arrays.fields())));
}

/// What a process that is gone saw last is not the observation of now.
void require_writer(const SharedArrays& arrays) {
  constexpr std::int64_t kQuietUs = 100'000;
  const std::int64_t quiet = now_us() - arrays.stamp().written_us;
  if (quiet < kQuietUs || arrays.has_writer()) return;
  throw Error("source: expected shared memory " + arrays.name() + " to have a writer, got none for " +
              std::to_string(quiet / 1000) + " ms: its process is gone");
}

}  // namespace

std::vector<SharedField> observation_fields(const Bundle& bundle) {
  std::vector<SharedField> fields;
  for (const FeatureSpec& feature : bundle.observation) {
    fields.push_back({feature.key, feature.dtype, feature.shape});
  }
  return fields;
}

std::vector<SharedField> action_fields(const Bundle& bundle) {
  return {{"action", DType::float32, {static_cast<std::int64_t>(bundle.action.names.size())}}};
}

Source shared_source(SharedArrays& arrays, const Bundle& bundle) {
  require_fields("source", observation_fields(bundle), arrays);
  std::vector<FeatureView> views(arrays.fields().size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    const SharedField& field = arrays.fields()[i];
    views[i].dtype = field.dtype;
    views[i].axes = static_cast<int>(field.shape.size());
    std::copy(field.shape.begin(), field.shape.end(), views[i].shape.begin());
  }
  return [&arrays, views = std::move(views)](Observation& observation) mutable {
    if (arrays.ended()) return Status::closed;
    const bool newer = arrays.read();
    if (arrays.read_count() == 0) return Status::not_reset;
    if (!newer) require_writer(arrays);
    for (std::size_t i = 0; i < views.size(); ++i) views[i].data = arrays.array(i);
    observation = {views, arrays.stamp().timestamp_us, arrays.stamp().now_us};
    return Status::ok;
  };
}

Sink shared_sink(SharedArrays& arrays, const Bundle& bundle) {
  require_fields("sink", action_fields(bundle), arrays);
  if (!arrays.claim()) {
    throw Error(expected("sink", "shared memory " + arrays.name() + " without another writer", "one with"));
  }
  return [&arrays](std::span<const float> action, Status status) {
    const std::array<const void*, 1> values = {action.data()};
    return arrays.write(values, {.timestamp_us = now_us(), .status = status}) ? Status::ok : Status::closed;
  };
}

}  // namespace keystep
