#include <array>

#include "bindings.hpp"
#include "convert.hpp"
#include "keystep/shared_arrays.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

constexpr std::array<DType, 3> kTypes = {DType::float32, DType::int64, DType::uint8};

DType dtype_of(py::handle value, const std::string& field) {
  const std::string wanted = text(value, field);
  for (const DType dtype : kTypes) {
    if (wanted == name(dtype)) return dtype;
  }
  throw ArgumentError(expected(field, "float32, int64 or uint8", wanted));
}

bool is_list(py::handle value) { return py::isinstance<py::tuple>(value) || py::isinstance<py::list>(value); }

SharedField field_from(py::handle entry) {
  const char* wanted = "(name, dtype, shape) each";
  if (!is_list(entry) || py::len(entry) != 3) throw ArgumentError(expected("fields", wanted, shown(entry)));
  const py::tuple parts(py::reinterpret_borrow<py::object>(entry));
  SharedField field{text(parts[0], "fields"), DType::float32, {}};
  field.dtype = dtype_of(parts[1], field.name);
  if (!is_list(parts[2])) throw ArgumentError(expected(field.name, "a shape, a tuple", shown(parts[2])));
  for (const py::handle extent : py::tuple(parts[2])) {
    field.shape.push_back(integer<std::int64_t>(extent, field.name));
  }
  return field;
}

std::vector<SharedField> fields_from(const py::sequence& given) {
  std::vector<SharedField> fields;
  for (const py::handle entry : given) fields.push_back(field_from(entry));
  return fields;
}

py::list fields_list(const SharedArrays& self) {
  py::list fields;
  for (const SharedField& field : self.fields()) {
    py::tuple shape(field.shape.size());
    for (std::size_t i = 0; i < field.shape.size(); ++i) shape[i] = field.shape[i];
    fields.append(py::make_tuple(field.name, name(field.dtype), shape));
  }
  return fields;
}

/// Arrays in the order of the fields, checked as everywhere.
void write(SharedArrays& self, const py::sequence& arrays, py::handle timestamp_us, py::handle now_us) {
  std::vector<py::array> kept;
  std::vector<const void*> data;
  for (std::size_t i = 0; i < self.fields().size(); ++i) {
    const SharedField& field = self.fields()[i];
    kept.push_back(checked_array(arrays[i], py::dtype(name(field.dtype)), field.name));
    const py::array& array = kept.back();
    const std::vector<py::ssize_t> shape(field.shape.begin(), field.shape.end());
    if (!std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim())) {
      throw ArgumentError(expected(field.name, "shape " + shape_text(shape.data(), std::ssize(shape)),
                                   shape_text(array.shape(), array.ndim())));
    }
    data.push_back(array.data());
  }
  const RecordStamp stamp{.timestamp_us = integer<std::int64_t>(timestamp_us, "timestamp_us", -1),
                          .now_us = integer<std::int64_t>(now_us, "now_us", -1)};
  if (self.write(data, stamp)) return;
  const char* got = self.ended() ? "arrays that have ended" : "another writer at work";
  throw Error(expected("shared memory " + self.name(), "to be written by this process", got));
}

/// (arrays, timestamp_us, now_us, status, written_us) of what was read last: copies. None before the first.
py::object newest(SharedArrays& self) {
  self.read();
  if (self.read_count() == 0) return py::none();
  py::list arrays;
  for (std::size_t i = 0; i < self.fields().size(); ++i) {
    const SharedField& field = self.fields()[i];
    const std::vector<py::ssize_t> shape(field.shape.begin(), field.shape.end());
    arrays.append(py::array(py::dtype(name(field.dtype)), shape, self.array(i)));
  }
  const RecordStamp& stamp = self.stamp();
  return py::make_tuple(arrays, stamp.timestamp_us, stamp.now_us, status_name(stamp.status),
                        stamp.written_us);
}

}  // namespace

void bind_shared_arrays(py::module_& module) {
  py::class_<SharedArrays>(module, "SharedArrays", "What `keystep.SharedArrays` wraps; see there.")
      .def_static(
          "create",
          [](py::handle name, const py::sequence& fields) {
            return SharedArrays::create(text(name, "name"), fields_from(fields));
          },
          py::arg("name"), py::arg("fields"))
      .def_static(
          "open", [](py::handle name) { return SharedArrays::open(text(name, "name")); }, py::arg("name"))
      .def_static(
          "remove", [](py::handle name) { SharedArrays::remove(text(name, "name")); }, py::arg("name"))
      .def("remove_own", [](SharedArrays& self) { self.remove(); })
      .def("write", &write, py::arg("arrays"), py::arg("timestamp_us"), py::arg("now_us"))
      .def("newest", &newest)
      .def("end", &SharedArrays::end)
      .def_property_readonly("fields", &fields_list)
      .def_property_readonly("name", &SharedArrays::name)
      .def_property_readonly("count", &SharedArrays::count)
      .def_property_readonly("read_count", &SharedArrays::read_count)
      .def_property_readonly("ended", &SharedArrays::ended)
      .def_property_readonly("has_writer", &SharedArrays::has_writer);
}

}  // namespace keystep::python
