#include "bindings.hpp"

namespace keystep::python {
namespace {

/// Its mask says which values are none; the memory holds any there.
bool is_masked(py::handle array) {
  static const py::handle plain = py::object(py::module_::import("numpy").attr("ndarray")).release();
  if (py::type::handle_of(array).is(plain)) return false;
  return py::isinstance(array, py::module_::import("numpy.ma").attr("MaskedArray"));
}

}  // namespace

std::string shape_text(const py::ssize_t* shape, py::ssize_t ndim) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < ndim; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

py::array checked_array(py::handle value, const py::dtype& dtype, const std::string& field) {
  if (!py::isinstance<py::array>(value)) {
    throw ArgumentError(expected(field, "a numpy array", Py_TYPE(value.ptr())->tp_name));
  }
  if (is_masked(value))
    throw ArgumentError(expected(field, "an array without a mask", "numpy.ma.MaskedArray"));
  auto array = py::reinterpret_borrow<py::array>(value);
  if (!array.dtype().equal(dtype)) {
    throw ArgumentError(expected(field, py::cast<std::string>(py::str(dtype)),
                                 py::cast<std::string>(py::str(array.dtype()))));
  }
  if (!(array.flags() & py::array::c_style)) {
    throw ArgumentError(expected(field, "a C-contiguous array",
                                 "strides " + shape_text(array.strides(), array.ndim()) + " bytes"));
  }
  if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    throw ArgumentError(expected(field, "an aligned array", "one at an odd address (a view into bytes?)"));
  }
  return array;
}

void check_frame(std::span<const py::ssize_t> shape, const FeatureSpec& wanted, const std::string& field) {
  bool fits = shape.size() == wanted.shape.size();
  for (std::size_t axis = 0; axis < shape.size() && fits; ++axis) {
    const bool free = wanted.resize && axis < 2;  // height and width
    fits = free ? shape[axis] >= 1 && shape[axis] <= kMaxImageExtent : shape[axis] == wanted.shape[axis];
  }
  if (fits) return;
  const std::vector<py::ssize_t> exact(wanted.shape.begin(), wanted.shape.end());
  const std::string any =
      "shape (height, width, 3) of 1.." + std::to_string(kMaxImageExtent) + " pixels a side";
  const bool rgb = wanted.kind == "rgb";
  const bool channels_first = rgb && shape.size() == 3 && shape[0] == 3 && shape[2] != 3;
  const bool batch = rgb && shape.size() == 4 && shape[0] == 1;
  const char* hint = channels_first ? ": looks like channels first (3, h, w); expected (h, w, 3)"
                     : batch        ? ": looks like a batch of one; expected a single image (h, w, 3)"
                                    : "";
  throw ArgumentError(expected(field,
                               wanted.resize ? any : "shape " + shape_text(exact.data(), std::ssize(exact)),
                               shape_text(shape.data(), std::ssize(shape)) + hint));
}

py::array float_array(py::handle value, const std::string& field) {
  return checked_array(value, py::dtype::of<float>(), field);
}

std::span<const float> values(const py::array& array) {
  return {static_cast<const float*>(array.data()), static_cast<std::size_t>(array.size())};
}

}  // namespace keystep::python
