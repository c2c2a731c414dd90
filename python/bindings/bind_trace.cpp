#include <pybind11/stl.h>

#include "convert.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

std::shared_ptr<Tracer> open_tracer(py::handle file) {
  const std::filesystem::path opened = path(file, "trace");
  py::gil_scoped_release release;
  return std::make_shared<Tracer>(opened);
}

/// What is in the file once all that was recorded before this call is.
py::dict report_dict(Tracer& self) {
  const TraceReport report = [&] {
    py::gil_scoped_release release;
    self.flush();
    return self.report();
  }();
  return py::dict("file"_a = self.file().string(), "events"_a = report.events, "dropped"_a = report.dropped,
                  "bytes"_a = report.bytes, "error"_a = report.error);
}

}  // namespace

void bind_trace(py::module_& module) {
  py::class_<Tracer, std::shared_ptr<Tracer>>(module, "Tracer", "The argument `trace` of `keystep.load`.")
      .def(py::init(&open_tracer), py::arg("file"))
      .def("report", &report_dict);
}

}  // namespace keystep::python
