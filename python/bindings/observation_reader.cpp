#include "observation_reader.hpp"

#include <cstddef>

namespace keystep::python {
namespace {

std::string text(const py::str& key) { return py::cast<std::string>(key); }

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

py::handle get(const py::dict& dictionary, const py::str& key, const std::string& prefix) {
  const py::handle value = find(dictionary, key);
  if (!value) throw ArgumentError(expected(prefix + text(key), "an array", "no such key"));
  return value;
}

}  // namespace

ObservationReader::ObservationReader(const ObservationSpec& spec)
    : state_size_(std::ssize(spec.state_names)),
      state_key_("observation.state"),
      timestamp_key_("timestamp_us"),
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
    const std::string field = prefix + text(state_key_);
    py::array array = checked_array(value, float32, field);
    check_shape(array, {state_size_}, field);
    result.state = values(array);
    result.owners.push_back(std::move(array));
  }
  for (const Image& image : images_) {
    const std::string field = prefix + text(image.key);
    py::array array = checked_array(get(dict, image.key, prefix), uint8, field);
    check_image(shape_of(array), image.spec, field);
    result.images.push_back(view_of(array.data(), shape_of(array)));
    result.owners.push_back(std::move(array));
  }
  if (const py::handle stamp = find(dict, timestamp_key_); stamp && !stamp.is_none()) {
    if (!PyIndex_Check(stamp.ptr())) {  // int, or an integer of numpy
      throw ArgumentError(
          expected(prefix + text(timestamp_key_), "an integer", Py_TYPE(stamp.ptr())->tp_name));
    }
    result.timestamp_us = py::cast<std::int64_t>(stamp);
  }
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
  const py::array all = checked_array(get(dict, py::str(key), "subgoals: "),
                                      state ? py::dtype::of<float>() : py::dtype::of<std::uint8_t>(), field);
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
      const bool wanted = text(image.key) == key;
      if (wanted) check_image(shape_of(all).subspan(1), image.spec, field + "[" + std::to_string(i) + "]");
      subgoals[i].images.push_back(wanted ? view_of(row, shape_of(all).subspan(1)) : ImageView{});
    }
  }
  return subgoals;
}

void ObservationReader::check_keys(const py::dict& dictionary, const std::string& prefix) const {
  std::size_t known = (state_size_ > 0) + images_.size();
  known += (find(dictionary, timestamp_key_) ? 1 : 0) + (find(dictionary, task_key_) ? 1 : 0);
  if (dictionary.size() == known) return;
  for (const auto& [key, value] : dictionary) {
    if (!py::isinstance<py::str>(key)) continue;
    const auto name = py::cast<std::string>(key);
    if (!name.starts_with("observation.")) continue;
    std::string wanted = state_size_ > 0 ? text(state_key_) : "";
    bool found = state_size_ > 0 && name == wanted;
    for (const Image& image : images_) {
      found = found || name == text(image.key);
      wanted += (wanted.empty() ? "" : ", ") + text(image.key);
    }
    if (!found) throw ArgumentError(expected(prefix + name, "one of " + wanted, "an unknown key"));
  }
}

}  // namespace keystep::python
