#include "bindings.hpp"

namespace keystep::python {

std::string shape_text(const py::ssize_t* shape, py::ssize_t ndim) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < ndim; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

py::array checked_array(py::handle value, const py::dtype& dtype, const std::string& field) {
  if (!py::isinstance<py::array>(value)) {
    throw ArgumentError(expected(field, "a numpy array", Py_TYPE(value.ptr())->tp_name));
  }
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

void check_shape(const py::array& array, std::initializer_list<py::ssize_t> shape, const std::string& field) {
  if (std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim())) return;
  throw ArgumentError(expected(field, "shape " + shape_text(shape.begin(), std::ssize(shape)),
                               shape_text(array.shape(), array.ndim())));
}

void check_image(const py::array& image, const ImageSpec& wanted, const std::string& field) {
  if (!wanted.resize) return check_shape(image, {wanted.height, wanted.width, 3}, field);
  if (image.ndim() == 3 && image.shape(2) == 3 && image.shape(0) > 0 && image.shape(1) > 0) return;
  throw ArgumentError(expected(field, "shape (height, width, 3)", shape_text(image.shape(), image.ndim())));
}

py::array float_array(py::handle value, const std::string& field) {
  return checked_array(value, py::dtype::of<float>(), field);
}

std::span<const float> values(const py::array& array) {
  return {static_cast<const float*>(array.data()), static_cast<std::size_t>(array.size())};
}

}  // namespace keystep::python
