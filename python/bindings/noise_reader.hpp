// Noise from Python, checked.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "convert.hpp"

namespace keystep::python {

/// Names the first value that is not.
inline void check_finite(const py::array& noise) {
  const std::span<const float> all = values(noise);
  const auto bad = std::ranges::find_if(all, [](float value) { return !std::isfinite(value); });
  if (bad == all.end()) return;
  py::ssize_t rest = bad - all.begin();
  std::string index;
  for (py::ssize_t axis = noise.ndim() - 1; axis >= 0; --axis) {
    index = std::to_string(rest % noise.shape(axis)) + (index.empty() ? "" : ", ") + index;
    rest /= noise.shape(axis);
  }
  throw ArgumentError(expected("noise[" + index + "]", "finite numbers", std::to_string(*bad)));
}

/// One sample of `shape`, or K of them.
inline py::array checked_noise(py::handle noise, const std::vector<py::ssize_t>& shape) {
  py::array array = float_array(noise, "noise");
  const py::ssize_t extra = array.ndim() - std::ssize(shape);
  const bool fits = (extra == 0 || (extra == 1 && array.shape(0) > 0)) &&
                    std::equal(shape.begin(), shape.end(), array.shape() + extra);
  if (!fits) {
    const std::string one = shape_text(shape.data(), std::ssize(shape));
    throw ArgumentError(expected("noise", "shape " + one + " or (K, " + one.substr(1),
                                 shape_text(array.shape(), array.ndim())));
  }
  check_finite(array);
  return array;
}

}  // namespace keystep::python
