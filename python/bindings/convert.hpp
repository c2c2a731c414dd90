// Arguments from Python as C++ values. pybind11's own conversions say neither which argument was wrong nor
// how, and swallow what its `__index__` or `__float__` raises, a KeyboardInterrupt included.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "bindings.hpp"

namespace keystep::python {

/// An integer of Python in the range of int64 or uint64.
struct WideInteger {
  bool negative = false;
  std::uint64_t bits = 0;  ///< two's complement
};

/// All of them: ArgumentError naming `field` for another type or a value out of range; what the value's own
/// conversion raises passes through.
std::optional<WideInteger> wide_integer(py::handle value, const std::string& field);  ///< none: too large
bool flag(py::handle value, const std::string& field);
double number(py::handle value, const std::string& field);
std::string text(py::handle value, const std::string& field);  ///< UTF-8 without NUL
std::optional<std::string> utf8(py::handle value);             ///< none: no str, or no UTF-8
std::filesystem::path path(py::handle value, const std::string& field);
/// The characters of a str, for messages: halves of surrogate pairs are escaped.
std::string characters(py::handle text);
/// For messages: a number or a short text as it is, anything else by its type.
std::string shown(py::handle value);

template <std::integral T>
T integer(py::handle value, const std::string& field, T least = std::numeric_limits<T>::min(),
          T greatest = std::numeric_limits<T>::max()) {
  if (const std::optional<WideInteger> wide = wide_integer(value, field)) {
    if (wide->negative && std::in_range<T>(static_cast<std::int64_t>(wide->bits))) {
      const T small = static_cast<T>(wide->bits);
      if (small >= least && small <= greatest) return small;
    }
    if (!wide->negative && std::in_range<T>(wide->bits)) {
      const T small = static_cast<T>(wide->bits);
      if (small >= least && small <= greatest) return small;
    }
  }
  throw ArgumentError(expected(
      field, "an integer in " + std::to_string(least) + ".." + std::to_string(greatest), shown(value)));
}

template <class T>
struct Optional : std::false_type {};
template <class T>
struct Optional<std::optional<T>> : std::true_type {};

std::vector<double> numbers(py::handle value, const std::string& field);
std::map<std::string, std::string> texts(py::handle value, const std::string& field);

template <class T>
T convert(py::handle value, const std::string& field) {
  if constexpr (Optional<T>::value) {
    return value.is_none() ? T() : T(convert<typename T::value_type>(value, field));
  } else if constexpr (std::same_as<T, bool>) {
    return flag(value, field);
  } else if constexpr (std::integral<T>) {
    return integer<T>(value, field);
  } else if constexpr (std::floating_point<T>) {
    return number(value, field);
  } else if constexpr (std::same_as<T, std::string>) {
    return text(value, field);
  } else if constexpr (std::same_as<T, std::vector<double>>) {
    return numbers(value, field);
  } else {
    return texts(value, field);
  }
}

/// A field of an option struct under its own name.
template <class Class, class T>
void bind_field(py::class_<Class>& type, const char* name, T Class::* member, const char* meaning = "") {
  type.def_property(
      name, [member](const Class& self) { return self.*member; },
      [member, name](Class& self, py::handle value) { self.*member = convert<T>(value, name); }, meaning);
}

}  // namespace keystep::python
