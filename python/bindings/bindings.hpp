// What the bind_*.cpp files share. Bindings convert types and check them by name; they hold no logic.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <span>
#include <string>

#include "keystep/keystep.hpp"

namespace keystep::python {

namespace py = pybind11;

/// "(26,)", as numpy prints it.
std::string shape_text(const py::ssize_t* shape, py::ssize_t ndim);

/// `value` as a C-contiguous array of exactly `dtype`; ArgumentError with `field` otherwise. Nothing is ever
/// converted: a silent float64 copy would cost time every tick and lose what is written to it.
py::array checked_array(py::handle value, const py::dtype& dtype, const std::string& field);

/// One frame of the feature's shape; of an image that the runtime resizes, of any up to `kMaxImageExtent`.
void check_frame(std::span<const py::ssize_t> shape, const FeatureSpec& wanted, const std::string& field);

/// A float32 array of any shape.
py::array float_array(py::handle value, const std::string& field);
std::span<const float> values(const py::array& array);

void bind_errors(py::module_& module);
void bind_bundle(py::module_& module);
void bind_noise(py::module_& module);
void bind_sampler(py::module_& module);
void bind_merge(py::module_& module);
void bind_options(py::module_& module);
void bind_runtime(py::module_& module);
void bind_shared_arrays(py::module_& module);
void bind_fixed_rate(py::module_& module);
void bind_trace(py::module_& module);

const char* status_name(Status status);  ///< as `PolicyError.status` has it
/// What a `_core.Runtime` holds; it lives as long as that.
Runtime& runtime_of(py::handle runtime);

/// Of `Runtime.telemetry`, by the names of its fields.
py::dict telemetry_dict(const Telemetry& seen);

/// Allocations of this extension's code on the calling thread so far (counted in allocations.cpp).
std::uint64_t allocation_count() noexcept;

}  // namespace keystep::python
