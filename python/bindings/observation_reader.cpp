#include "observation_reader.hpp"

#include <algorithm>
#include <cstddef>

#include "convert.hpp"

namespace keystep::python {
namespace {

std::string name_of(const py::str& key) { return py::cast<std::string>(key); }

/// An image whose shape was checked.
ImageView view_of(const void* pixels, std::span<const py::ssize_t> shape) {
  return {static_cast<const std::uint8_t*>(pixels), static_cast<int>(shape[0]), static_cast<int>(shape[1])};
}

std::span<const py::ssize_t> shape_of(const py::array& array) {
  return {array.shape(), static_cast<std::size_t>(array.ndim())};
}

py::handle find(const py::dict& dictionary, const py::str& key) {
  PyObject* value = PyDict_GetItemWithError(dictionary.ptr(), key.ptr());
  if (!value && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

[[noreturn]] void refuse_missing(const py::str& key, const std::string& prefix) {
  throw ArgumentError(expected(prefix + name_of(key), "an array", "no such key"));
}

/// What is no str, as Python writes it, or if it cannot (an integer of 5,000 digits) as messages do.
std::string written(py::handle key) {
  const auto text = py::reinterpret_steal<py::object>(PyObject_ASCII(key.ptr()));
  if (text) return in_quotes(py::cast<std::string>(text));
  if (!PyErr_ExceptionMatches(PyExc_ValueError)) throw py::error_already_set();
  PyErr_Clear();
  return shown(key);
}

/// -1: none.
std::int64_t time_of(const py::dict& dictionary, const py::str& key, const std::string& prefix) {
  const py::handle value = find(dictionary, key);
  if (!value || value.is_none()) return -1;
  return integer<std::int64_t>(value, prefix + name_of(key), 0);
}

}  // namespace

ObservationReader::ObservationReader(const ObservationSpec& spec)
    : state_size_(std::ssize(spec.state_names)),
      state_key_("observation.state"),
      timestamp_key_("timestamp_us"),
      now_key_("now_us"),
      task_key_("task") {
  for (const ImageSpec& image : spec.images) {
    images_.push_back({py::str("observation.images." + image.camera), image});
  }
}

ReadObservation ObservationReader::read(py::handle dictionary, const std::string& prefix) const {
  if (!PyDict_Check(dictionary.ptr())) {
    throw ArgumentError(expected(prefix + "observation", "a dict", Py_TYPE(dictionary.ptr())->tp_name));
  }
  const auto dict = py::reinterpret_borrow<py::dict>(dictionary);
  static const py::dtype& float32 = *new py::dtype(py::dtype::of<float>());  // never freed: outlives Python
  static const py::dtype& uint8 = *new py::dtype(py::dtype::of<std::uint8_t>());
  ReadObservation result;
  if (state_size_ > 0) {
    const py::handle value = get(dict, state_key_, prefix);
    const std::string field = prefix + name_of(state_key_);
    py::array array = checked_array(value, float32, field);
    check_shape(array, {state_size_}, field);
    result.state = values(array);
    result.owners.push_back(std::move(array));
  }
  for (const Image& image : images_) {
    const std::string field = prefix + name_of(image.key);
    py::array array = checked_array(get(dict, image.key, prefix), uint8, field);
    check_image(shape_of(array), image.spec, field);
    result.images.push_back(view_of(array.data(), shape_of(array)));
    result.owners.push_back(std::move(array));
  }
  result.timestamp_us = time_of(dict, timestamp_key_, prefix);
  result.now_us = time_of(dict, now_key_, prefix);
  check_keys(dict, prefix);
  return result;
}

std::vector<ReadObservation> ObservationReader::read_subgoals(py::handle dictionary,
                                                              const std::string& key) const {
  if (!PyDict_Check(dictionary.ptr())) {
    throw ArgumentError(expected("subgoals", "a dict", Py_TYPE(dictionary.ptr())->tp_name));
  }
  const auto dict = py::reinterpret_borrow<py::dict>(dictionary);
  const std::string field = "subgoals: " + key;
  const bool state = key == "observation.state";
  const py::handle given = find(dict, py::str(key));
  if (!given) refuse_missing(py::str(key), "subgoals: ");
  const py::array all =
      checked_array(given, state ? py::dtype::of<float>() : py::dtype::of<std::uint8_t>(), field);
  if (dict.size() != 1) throw ArgumentError(expected("subgoals", "the key " + key + " alone", "more keys"));
  const py::ssize_t ndim = state ? 2 : 4;
  if (all.ndim() != ndim || (state && all.shape(1) != state_size_)) {
    const std::string wanted = state ? std::to_string(state_size_) : "height, width, 3";
    throw ArgumentError(
        expected(field, "shape (subgoals, " + wanted + ")", shape_text(all.shape(), all.ndim())));
  }
  std::vector<ReadObservation> subgoals(static_cast<std::size_t>(all.shape(0)));
  // By address: a subclass of numpy's array may make anything of an index.
  const auto* row = static_cast<const std::byte*>(all.data());
  const std::size_t row_bytes =
      subgoals.empty() ? 0 : static_cast<std::size_t>(all.nbytes()) / subgoals.size();
  for (std::size_t i = 0; i < subgoals.size(); ++i, row += row_bytes) {
    subgoals[i].owners.push_back(all);
    if (state) {
      subgoals[i].state = {reinterpret_cast<const float*>(row), static_cast<std::size_t>(state_size_)};
      continue;
    }
    for (const Image& image : images_) {
      const bool wanted = name_of(image.key) == key;
      if (wanted) check_image(shape_of(all).subspan(1), image.spec, field + "[" + std::to_string(i) + "]");
      subgoals[i].images.push_back(wanted ? view_of(row, shape_of(all).subspan(1)) : ImageView{});
    }
  }
  return subgoals;
}

py::handle ObservationReader::get(const py::dict& dictionary, const py::str& key,
                                  const std::string& prefix) const {
  const py::handle value = find(dictionary, key);
  if (value) return value;
  refuse_unknown(dictionary, prefix);  // it may be there, misspelt
  refuse_missing(key, prefix);
}

void ObservationReader::check_keys(const py::dict& dictionary, const std::string& prefix) const {
  std::size_t known = (state_size_ > 0) + images_.size();
  for (const py::str* key : {&timestamp_key_, &now_key_, &task_key_}) known += find(dictionary, *key) ? 1 : 0;
  if (dictionary.size() != known) refuse_unknown(dictionary, prefix);
}

void ObservationReader::refuse_unknown(const py::dict& dictionary, const std::string& prefix) const {
  std::vector<std::string> known;
  if (state_size_ > 0) known.push_back(name_of(state_key_));
  for (const Image& image : images_) known.push_back(name_of(image.key));
  std::string wanted;
  for (const std::string& name : known) wanted += (wanted.empty() ? "" : ", ") + name;
  for (const py::str* key : {&timestamp_key_, &now_key_, &task_key_}) known.push_back(name_of(*key));
  for (const auto& [key, value] : dictionary) {
    if (!PyUnicode_Check(key.ptr())) {
      throw ArgumentError(expected(prefix + "observation", "keys of type str",
                                   written(key) + " of type " + Py_TYPE(key.ptr())->tp_name));
    }
    const std::string name = characters(key);
    if (std::ranges::find(known, name) != known.end()) continue;
    throw ArgumentError(expected(prefix + name, "one of " + wanted, "an unknown key" + nearest(name, known)));
  }
}

}  // namespace keystep::python
