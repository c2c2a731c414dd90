// A dictionary of numpy arrays to the borrowed views the tick takes, checked by name.
#pragma once

#include <vector>

#include "bindings.hpp"

namespace keystep::python {

/// Views into the arrays of one dictionary; `owners` keeps them alive while the GIL is released.
struct ReadObservation {
  Observation view() const { return {features, timestamp_us, now_us}; }
  std::vector<FeatureView> features;
  std::int64_t timestamp_us = -1, now_us = -1;
  std::vector<py::object> owners;
};

class ObservationReader {
 public:
  explicit ObservationReader(const std::vector<FeatureSpec>& features);
  /// ArgumentError names the key: missing, unknown, or of the wrong dtype, shape or layout. `prefix` stands
  /// before the key in messages.
  ReadObservation read(py::handle dictionary, const std::string& prefix = "") const;
  /// {`key`: one frame of that feature after the other}: (M, ..).
  std::vector<ReadObservation> read_subgoals(py::handle dictionary, const std::string& key) const;

 private:
  struct Feature {
    py::str key;
    FeatureSpec spec;
    py::dtype dtype;
  };
  py::handle get(const py::dict& dictionary, const py::str& key, const std::string& prefix) const;
  void check_keys(const py::dict& dictionary, const std::string& prefix) const;
  void refuse_unknown(const py::dict& dictionary, const std::string& prefix) const;

  py::str timestamp_key_, now_key_, task_key_;
  std::vector<Feature> features_;
};

}  // namespace keystep::python
