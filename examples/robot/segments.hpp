// The shared memory between world.py and a robot's program: what is in it. Twin of segments.py.
//
//   NAME-state    the world writes, once a control period: how the episode stands, the bundle's vectors
//   NAME-camera   the world writes, likewise: the bundle's images, where it has some
//   NAME-command  the arm thread writes, 100 times a second: an action and its number
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "report.hpp"

namespace robot {

using Arrays = std::unique_ptr<keystep::SharedArrays>;
using Fields = std::vector<keystep::SharedField>;

inline constexpr double kQuietS = 0.1;  ///< who writes nothing for so long is asked for

/// The first fields of NAME-state: control periods since the start, the number of the last action that was
/// executed, whether it is solved.
enum Progress : std::size_t { kStep, kExecuted, kSuccess, kProgress };

inline bool is_image(const keystep::FeatureSpec& feature) { return feature.kind != "vector"; }

/// Of NAME-state.
inline Fields state_fields(const keystep::Bundle& bundle) {
  constexpr auto kInt = keystep::DType::int64;
  Fields fields = {{"step", kInt, {1}}, {"executed", kInt, {1}}, {"success", kInt, {1}}};
  for (const keystep::FeatureSpec& one : bundle.observation) {
    if (!is_image(one)) fields.push_back({one.key, one.dtype, one.shape});
  }
  return fields;
}

/// Of NAME-camera; none: the bundle sees no images.
inline Fields camera_fields(const keystep::Bundle& bundle) {
  Fields fields;
  for (const keystep::FeatureSpec& one : bundle.observation) {
    if (is_image(one)) fields.push_back({one.key, one.dtype, one.shape});
  }
  return fields;
}

/// Of NAME-command.
inline Fields command_fields(const keystep::Bundle& bundle) {
  Fields fields = keystep::action_fields(bundle);
  fields.insert(fields.begin(), {"number", keystep::DType::int64, {1}});
  return fields;
}

inline std::string shown(const Fields& fields) {
  std::string all;
  for (const keystep::SharedField& field : fields) {
    all += (all.empty() ? "" : ", ") + field.name + " " + keystep::name(field.dtype) + " (";
    for (const std::int64_t extent : field.shape) all += std::to_string(extent) + ",";
    all.back() = ')';
  }
  return all;
}

/// How long ago what was read was taken.
inline double age_s(const keystep::SharedArrays& arrays) {
  return 1e-6 * static_cast<double>(keystep::now_us() - arrays.stamp().timestamp_us);
}

/// Calls `attempt` until it is true, at most so long: whether it was.
template <class Attempt>
bool within(double wait_s, Attempt attempt) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_s);
  while (!attempt()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

/// Opens what the world makes, within `wait_s`. Throws keystep::Error: there is none, or it differs.
inline Arrays connect(const std::string& name, const Fields& fields, double wait_s) {
  Arrays arrays;
  std::string why;
  const auto open = [&] {
    try {
      arrays = keystep::SharedArrays::open(name);
    } catch (const keystep::ArgumentError&) {
      throw;
    } catch (const keystep::Error& error) {
      why = error.what();
    }
    return arrays != nullptr;
  };
  if (!within(wait_s, open)) {
    throw keystep::Error(why + text(", within %g s. Does world.py run, with this --name?", wait_s));
  }
  if (arrays->fields() != fields) {
    throw keystep::Error("shared memory " + name + ": expected " + shown(fields) + ", got " +
                         shown(arrays->fields()) + ". Is the world's bundle another one?");
  }
  return arrays;
}

/// Reads one that is not older than `patience_s`, within `wait_s`. Throws keystep::Error.
inline void first_record(keystep::SharedArrays& arrays, double wait_s, double patience_s) {
  const auto fresh = [&] {
    arrays.read();
    return arrays.read_count() > 0 && age_s(arrays) <= patience_s && arrays.has_writer();
  };
  if (within(wait_s, fresh)) return;
  const std::string got = arrays.read_count() == 0 ? "none" : text("one of %.1f s ago", age_s(arrays));
  throw keystep::Error("shared memory " + arrays.name() + ": expected a record, got " + got +
                       ". Is the world gone?");
}

/// The watchdog of a world that vanished or hangs. Throws keystep::Error.
inline void check_world(const keystep::SharedArrays& arrays, double patience_s) {
  const double age = age_s(arrays);
  const bool gone = age > kQuietS && !arrays.has_writer();  // before `ended`, which one that ends says first
  if (arrays.ended()) return;
  const std::string what = "shared memory " + arrays.name() + ": expected a ";
  if (gone) throw keystep::Error(what + "world, got none: its process is gone");
  if (age <= patience_s) return;
  throw keystep::Error(what +
                       text("record within %g s, got none for %.1f s: a world hangs", patience_s, age));
}

/// A copy of a record, for another thread. Sized once.
struct Seen {
  explicit Seen(const keystep::SharedArrays& from) {
    for (const keystep::SharedField& field : from.fields()) {
      std::size_t bytes = keystep::size_of(field.dtype);
      for (const std::int64_t extent : field.shape) bytes *= static_cast<std::size_t>(extent);
      arrays.emplace_back(bytes);
    }
    take(from);
  }
  void take(const keystep::SharedArrays& from) {
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      std::memcpy(arrays[i].data(), from.array(i), arrays[i].size());
    }
    timestamp_us = from.stamp().timestamp_us;
  }

  std::vector<std::vector<std::byte>> arrays;
  std::int64_t timestamp_us = -1;
};

}  // namespace robot
