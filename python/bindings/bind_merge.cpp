#include <array>
#include <string_view>

#include "continuation_reader.hpp"

namespace keystep::python {
namespace {

using Rule = Continuation::Rule;
using Decay = Continuation::Decay;

template <class T, std::size_t N>
T named(py::handle value, const char* field, const std::array<std::pair<const char*, T>, N>& choices) {
  const std::string given = text(value, field);
  std::string wanted;
  for (const auto& [name, choice] : choices) {
    if (given == name) return choice;
    wanted += (wanted.empty() ? "" : " | ") + std::string(name);
  }
  throw ArgumentError(expected(field, wanted, in_quotes(given)));
}

Rule rule_named(py::handle value) {
  static constexpr std::array<std::pair<const char*, Rule>, 3> kRules = {
      {{"none", Rule::none}, {"x0blend", Rule::x0blend}, {"trained", Rule::trained}}};
  return named(value, "rule", kRules);
}

Decay decay_named(py::handle value) {
  static constexpr std::array<std::pair<const char*, Decay>, 2> kDecays = {
      {{"linear", Decay::linear}, {"exponential", Decay::exponential}}};
  return named(value, "decay", kDecays);
}

py::array_t<float> weights(py::handle horizon, py::handle delay, py::handle overlap, py::handle rows,
                           py::handle decay) {
  constexpr int kMost = 1 << 20;
  py::array_t<float> result(integer<int>(horizon, "horizon", 1, kMost));
  const int count = static_cast<int>(result.size());
  const int d = integer<int>(delay, "delay", 0, count);
  merge_weights(d, integer<int>(overlap, "overlap", d, count), integer<int>(rows, "rows", 0, count),
                decay_named(decay), {result.mutable_data(), static_cast<std::size_t>(count)});
  return result;
}

}  // namespace

ReadContinuation read_continuation(py::handle previous, py::handle delay, py::handle overlap, py::handle rule,
                                   py::handle decay, py::ssize_t dim) {
  ReadContinuation read;
  if (previous.is_none()) return read;
  read.previous = float_array(previous, "previous");
  if (read.previous.ndim() != 2 || read.previous.shape(1) != dim) {
    throw ArgumentError(expected("previous", "shape (rows, " + std::to_string(dim) + ")",
                                 shape_text(read.previous.shape(), read.previous.ndim())));
  }
  read.view = {.previous = values(read.previous),
               .delay = integer<int>(delay, "delay"),
               .overlap = integer<int>(overlap, "overlap"),
               .rule = rule_named(rule),
               .decay = decay_named(decay)};
  return read;
}

void bind_merge(py::module_& module) {
  module.def("merge_weights", &weights, py::arg("horizon"), py::arg("delay"), py::arg("overlap"),
             py::arg("rows"), py::arg("decay"));
}

}  // namespace keystep::python
