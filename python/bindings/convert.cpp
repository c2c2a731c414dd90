#include "convert.hpp"

#include <string_view>

namespace keystep::python {
namespace {

/// Of a conversion that failed: what says "not this type" becomes an ArgumentError, anything else passes.
[[noreturn]] void refuse(const std::string& field, const std::string& wanted, py::handle value) {
  const bool ours = PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_OverflowError);
  if (PyErr_Occurred() && !ours) throw py::error_already_set();
  PyErr_Clear();
  throw ArgumentError(expected(field, wanted, shown(value)));
}

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

}  // namespace

std::string characters(py::handle text) {
  if (PyUnicode_AsUTF8(text.ptr())) return py::cast<std::string>(text);
  PyErr_Clear();  // halves of surrogate pairs: as Python would write them
  const auto quoted = py::reinterpret_steal<py::object>(PyObject_ASCII(text.ptr()));
  const std::string escaped = py::cast<std::string>(quoted);
  return escaped.substr(1, escaped.size() - 2);
}

std::string shown(py::handle value) {
  constexpr std::size_t kMostBits = 200;  // more digits than anybody reads; Python refuses to print 5,000
  if (PyLong_Check(value.ptr())) {
    const auto bits = py::cast<std::size_t>(value.attr("bit_length")());
    if (bits > kMostBits) return "an integer of " + std::to_string(bits) + " bits";
    return py::cast<std::string>(py::str(value));
  }
  if (PyFloat_Check(value.ptr())) return py::cast<std::string>(py::str(value));
  if (PyUnicode_Check(value.ptr())) {
    return in_quotes(characters(value));
  }
  return type_name(value);
}

std::optional<WideInteger> wide_integer(py::handle value, const std::string& field) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) {  // int, or an integer of numpy
    throw ArgumentError(expected(field, "an integer", type_name(value)));
  }
  const auto exact = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!exact) refuse(field, "an integer", value);
  int overflow = 0;
  const long long small = PyLong_AsLongLongAndOverflow(exact.ptr(), &overflow);
  if (overflow == 0) return WideInteger{small < 0, static_cast<std::uint64_t>(small)};
  if (overflow < 0) return {};
  const unsigned long long large = PyLong_AsUnsignedLongLong(exact.ptr());
  if (!PyErr_Occurred()) return WideInteger{false, large};
  PyErr_Clear();
  return {};
}

bool flag(py::handle value, const std::string& field) {
  const std::string_view name = Py_TYPE(value.ptr())->tp_name;
  if (!PyBool_Check(value.ptr()) && name != "numpy.bool" && name != "numpy.bool_") {
    throw ArgumentError(expected(field, "True or False", shown(value)));
  }
  return PyObject_IsTrue(value.ptr()) == 1;
}

double number(py::handle value, const std::string& field) {
  if (PyBool_Check(value.ptr())) throw ArgumentError(expected(field, "a number", "bool"));
  const double converted = PyFloat_AsDouble(value.ptr());
  if (converted == -1 && PyErr_Occurred()) refuse(field, "a number", value);
  return converted;
}

std::optional<std::string> utf8(py::handle value) {
  if (!PyUnicode_Check(value.ptr())) return {};
  Py_ssize_t size = 0;
  if (const char* bytes = PyUnicode_AsUTF8AndSize(value.ptr(), &size)) {
    return std::string(bytes, static_cast<std::size_t>(size));
  }
  if (!PyErr_ExceptionMatches(PyExc_UnicodeError)) throw py::error_already_set();
  PyErr_Clear();  // halves of surrogate pairs
  return {};
}

std::string text(py::handle value, const std::string& field) {
  if (!PyUnicode_Check(value.ptr())) throw ArgumentError(expected(field, "a str", type_name(value)));
  const std::optional<std::string> converted = utf8(value);
  if (!converted) throw ArgumentError(expected(field, "UTF-8", shown(value)));
  const std::size_t nul = converted->find('\0');
  if (nul == std::string::npos) return *converted;
  throw ArgumentError(expected(field, "text", "a NUL at " + std::to_string(nul)));
}

std::filesystem::path path(py::handle value, const std::string& field) {
  const std::string wanted = "a path (str, bytes or os.PathLike)";
  const auto raw = py::reinterpret_steal<py::object>(PyOS_FSPath(value.ptr()));
  if (!raw) refuse(field, wanted, value);
  PyObject* encoded = nullptr;
  if (!PyUnicode_FSConverter(raw.ptr(), &encoded)) {
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) throw py::error_already_set();
    PyErr_Clear();  // NUL, or halves of surrogate pairs
    throw ArgumentError(expected(field, "a path without NUL that the file system can name", shown(raw)));
  }
  const auto bytes = py::reinterpret_steal<py::bytes>(encoded);
  return std::filesystem::path(static_cast<std::string>(bytes));
}

std::vector<double> numbers(py::handle value, const std::string& field) {
  if (!PySequence_Check(value.ptr()) || PyUnicode_Check(value.ptr()) || PyBytes_Check(value.ptr())) {
    throw ArgumentError(expected(field, "a sequence of numbers", shown(value)));
  }
  std::vector<double> converted;
  for (const py::handle item : py::reinterpret_borrow<py::object>(value)) {
    converted.push_back(number(item, field + "[" + std::to_string(converted.size()) + "]"));
  }
  return converted;
}

std::map<std::string, std::string> texts(py::handle value, const std::string& field) {
  if (!PyDict_Check(value.ptr())) throw ArgumentError(expected(field, "a dict of str", shown(value)));
  std::map<std::string, std::string> converted;
  for (const auto& [key, item] : py::reinterpret_borrow<py::dict>(value)) {
    const std::string name = text(key, field + " key");
    converted[name] = text(item, field + "[" + in_quotes(name) + "]");
  }
  return converted;
}

}  // namespace keystep::python
