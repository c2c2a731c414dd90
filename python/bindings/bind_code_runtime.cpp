#include <pybind11/stl.h>

#include "bind_code.hpp"
#include "convert.hpp"
#include "py_session.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

/// What `keystep.CodeRuntime` wraps.
class PyCodeRuntime : public PySession<CodeRuntime> {
 public:
  PyCodeRuntime(py::handle bundle, const CodeOptions& options)
      : PySession([&, folder = path(bundle, "path")](std::shared_ptr<Attendant> attendant) {
          CodeOptions all = options;
          all.attendant = std::move(attendant);
          return std::make_unique<CodeRuntime>(folder, std::move(all));
        }) {}

  std::unique_ptr<PyCodeRuntime> session() const {
    check_usable();
    return std::unique_ptr<PyCodeRuntime>(new PyCodeRuntime(*this));
  }

  void reset(py::handle task) {
    check_usable();
    const std::string told = text(task, "task");
    call([&] { runtime().reset(told); });
  }

  /// (text, key_step, asked, tokens, passes, ended)
  py::tuple ask(py::handle dictionary, py::handle request) {
    check_usable();
    const ReadObservation read = reader().read(dictionary);
    const bool wants = flag(request, "request");
    CodeReply reply = runtime().make_reply();
    call_step([&](std::string& message) { return runtime().ask(read.view(), reply, wants, &message); });
    return py::make_tuple(reply.text, reply.key_step, reply.asked, reply.tokens, reply.passes, reply.ended);
  }

  void prepare() {
    check_usable();
    call_step([&](std::string& message) { return runtime().prepare(&message); });
  }

  py::tuple memory() const {
    const std::vector<std::string> all = runtime().memory();
    py::tuple keysteps(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) keysteps[i] = py::str(all[i]);
    return keysteps;
  }

  /// (kind, step, text) each.
  py::list events() const {
    py::list all;
    for (const CodeEvent& event : runtime().events()) {
      all.append(py::make_tuple(name(event.kind), event.step, event.text));
    }
    return all;
  }

  py::dict counts() const {
    const CodeCounts seen = runtime().counts();
    return py::dict("steps"_a = seen.steps, "replies"_a = seen.replies, "key_steps"_a = seen.key_steps,
                    "tokens"_a = seen.tokens, "passes"_a = seen.passes, "prepared"_a = seen.prepared,
                    "forgotten"_a = seen.forgotten, "refused"_a = seen.refused, "endless"_a = seen.endless,
                    "not_finite"_a = seen.not_finite, "failed"_a = seen.failed,
                    "events_lost"_a = seen.events_lost);
  }

  py::dict latencies() const {
    return latency_dict(latency(), runtime().engine_description(), runtime().engine_choices(),
                        tick_allocations());
  }

  py::dict decoding() const {
    const DecodingSpec& spec = runtime().decoding();
    return py::dict("way"_a = spec.way, "early_stop"_a = spec.early_stop, "every"_a = spec.every,
                    "constrained"_a = spec.constrained);
  }

 private:
  explicit PyCodeRuntime(const PyCodeRuntime& of)
      : PySession([&](std::shared_ptr<Attendant> attendant) {
          return of.runtime().session(std::move(attendant));
        }) {}
};

}  // namespace

void bind_code_runtime(py::module_& module) {
  py::class_<CodeOptions> options(module, "CodeOptions", "Arguments of `keystep.load`; see there.");
  options.def(py::init());
  options.def_readwrite("engine", &CodeOptions::engine);
  bind_field(options, "way", &CodeOptions::way);
  bind_field(options, "early_stop", &CodeOptions::early_stop);
  bind_field(options, "every", &CodeOptions::every);
  bind_field(options, "constrained", &CodeOptions::constrained);
  bind_field(options, "deadline_us", &CodeOptions::deadline_us);
  options.def_readwrite("tracer", &CodeOptions::tracer);

  py::class_<PyCodeRuntime>(module, "CodeRuntime", "What `keystep.CodeRuntime` wraps; see there.")
      .def(py::init<py::handle, const CodeOptions&>(), py::arg("path"), py::arg("options"))
      .def("check_usable", &PyCodeRuntime::check_usable)
      .def("session", &PyCodeRuntime::session)
      .def("reset", &PyCodeRuntime::reset, py::arg("task"))
      .def("ask", &PyCodeRuntime::ask, py::arg("observation"), py::arg("request"))
      .def("prepare", &PyCodeRuntime::prepare)
      .def("interrupt", &PyCodeRuntime::interrupt)
      .def("task", [](const PyCodeRuntime& self) { return self.runtime().task(); })
      .def("memory", &PyCodeRuntime::memory)
      .def("code", [](const PyCodeRuntime& self) { return self.runtime().code(); })
      .def("info", [](const PyCodeRuntime& self) { return self.runtime().info(); })
      .def("events", &PyCodeRuntime::events)
      .def("counts", &PyCodeRuntime::counts)
      .def("latency", &PyCodeRuntime::latencies)
      .def("reset_latency", &PyCodeRuntime::reset_latency)
      .def("close", &PyCodeRuntime::close)
      .def_property_readonly("decoding", &PyCodeRuntime::decoding)
      .def_property_readonly("closed", [](const PyCodeRuntime& self) { return self.runtime().closed(); })
      .def_property_readonly("manifest_json",
                             [](const PyCodeRuntime& self) { return self.runtime().bundle().manifest_json; })
      .def_property_readonly(
          "engine_choices",
          [](const PyCodeRuntime& self) { return choice_list(self.runtime().engine_choices()); })
      .def_property_readonly("tracer",
                             [](const PyCodeRuntime& self) { return self.runtime().options().tracer; })
      .def_property_readonly("engine_description",
                             [](const PyCodeRuntime& self) { return self.runtime().engine_description(); });
}

}  // namespace keystep::python
