#include "observation_reader.hpp"

#include <algorithm>
#include <cstddef>

#include "convert.hpp"

namespace keystep::python {
namespace {

std::string name_of(const py::str& key) { return py::cast<std::string>(key); }

/// A frame whose dtype and shape were checked.
FeatureView view_of(const void* data, const FeatureSpec& spec, std::span<const py::ssize_t> shape) {
  FeatureView view;
  view.data = data;
  view.dtype = spec.dtype;
  view.axes = static_cast<int>(shape.size());
  std::ranges::copy(shape, view.shape.begin());
  return view;
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

ObservationReader::ObservationReader(const std::vector<FeatureSpec>& features)
    : timestamp_key_("timestamp_us"), now_key_("now_us"), task_key_("task") {
  for (const FeatureSpec& spec : features) {
    features_.push_back({py::str(spec.key), spec, py::dtype(name(spec.dtype))});
  }
}

ReadObservation ObservationReader::read(py::handle dictionary, const std::string& prefix) const {
  if (!PyDict_Check(dictionary.ptr())) {
    throw ArgumentError(expected(prefix + "observation", "a dict", Py_TYPE(dictionary.ptr())->tp_name));
  }
  const auto dict = py::reinterpret_borrow<py::dict>(dictionary);
  ReadObservation result;
  for (const Feature& feature : features_) {
    const std::string field = prefix + feature.spec.key;
    py::array array = checked_array(get(dict, feature.key, prefix), feature.dtype, field);
    check_frame(shape_of(array), feature.spec, field);
    result.features.push_back(view_of(array.data(), feature.spec, shape_of(array)));
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
  const auto feature = std::ranges::find_if(features_, [&](const auto& one) { return one.spec.key == key; });
  const py::handle given = find(dict, feature->key);
  if (!given) refuse_missing(feature->key, "subgoals: ");
  const py::array all = checked_array(given, feature->dtype, field);
  if (dict.size() != 1) throw ArgumentError(expected("subgoals", "the key " + key + " alone", "more keys"));
  const bool vector = feature->spec.shape.size() == 1;
  if (all.ndim() != std::ssize(feature->spec.shape) + 1 ||
      (vector && all.shape(1) != feature->spec.shape[0])) {
    const std::string wanted = vector ? std::to_string(feature->spec.shape[0]) : "height, width, 3";
    throw ArgumentError(
        expected(field, "shape (subgoals, " + wanted + ")", shape_text(all.shape(), all.ndim())));
  }
  std::vector<ReadObservation> subgoals(static_cast<std::size_t>(all.shape(0)));
  // By address: a subclass of numpy's array may make anything of an index.
  const auto* row = static_cast<const std::byte*>(all.data());
  const std::size_t row_bytes =
      subgoals.empty() ? 0 : static_cast<std::size_t>(all.nbytes()) / subgoals.size();
  const auto place = static_cast<std::size_t>(feature - features_.begin());
  for (std::size_t i = 0; i < subgoals.size(); ++i, row += row_bytes) {
    const auto shape = shape_of(all).subspan(1);
    check_frame(shape, feature->spec, field + "[" + std::to_string(i) + "]");
    subgoals[i].owners.push_back(all);
    subgoals[i].features.resize(features_.size());  // of a subgoal only its own feature is read
    subgoals[i].features[place] = view_of(row, feature->spec, shape);
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
  std::size_t known = features_.size();
  for (const py::str* key : {&timestamp_key_, &now_key_, &task_key_}) known += find(dictionary, *key) ? 1 : 0;
  if (dictionary.size() != known) refuse_unknown(dictionary, prefix);
}

void ObservationReader::refuse_unknown(const py::dict& dictionary, const std::string& prefix) const {
  std::vector<std::string> known;
  for (const Feature& feature : features_) known.push_back(feature.spec.key);
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
