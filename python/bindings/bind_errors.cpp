#include "convert.hpp"

namespace keystep::python {
namespace {

/// `keystep.<name>`, derived from `bases`; lives as long as the interpreter.
PyObject* new_exception(py::module_& module, const char* name, const py::object& bases, const char* doc) {
  PyObject* type =
      PyErr_NewExceptionWithDoc((std::string("keystep.") + name).c_str(), doc, bases.ptr(), nullptr);
  if (!type) throw py::error_already_set();
  module.attr(name) = py::reinterpret_borrow<py::object>(type);
  return type;
}

struct ErrorTypes {
  PyObject *error, *bundle, *provider, *argument, *policy;
};
ErrorTypes types;

void raise_policy_error(const PolicyError& error) {
  auto instance = py::reinterpret_borrow<py::object>(types.policy)(error.what());
  instance.attr("status") = status_name(error.status);
  PyErr_SetObject(types.policy, instance.ptr());
}

void translate(std::exception_ptr pointer) {
  if (!pointer) return;
  try {
    std::rethrow_exception(pointer);
  } catch (const PolicyError& error) {
    raise_policy_error(error);
  } catch (const BundleError& error) {
    PyErr_SetString(types.bundle, error.what());
  } catch (const ProviderError& error) {
    PyErr_SetString(types.provider, error.what());
  } catch (const ArgumentError& error) {
    PyErr_SetString(types.argument, error.what());
  } catch (const Error& error) {
    PyErr_SetString(types.error, error.what());
  }
}

}  // namespace

const char* status_name(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::not_reset:
      return "not_reset";
    case Status::closed:
      return "closed";
    case Status::forked:
      return "forked";
    case Status::busy:
      return "busy";
    case Status::bad_observation:
      return "bad_observation";
    case Status::stale_observation:
      return "stale_observation";
    case Status::interrupted:
      return "interrupted";
    case Status::rejected_plan:
      return "rejected_plan";
    case Status::rejected_chunk:
      return "rejected_chunk";
    case Status::engine_failure:
      return "engine_failure";
    case Status::engine_hung:
      return "engine_hung";
    case Status::underrun:
      return "underrun";
  }
  return "unknown";
}

void bind_errors(py::module_& module) {
  const auto runtime_error = py::reinterpret_borrow<py::object>(PyExc_RuntimeError);
  types.error = new_exception(module, "Error", runtime_error, "Base of everything keystep raises.");
  const auto error = py::reinterpret_borrow<py::object>(types.error);
  types.bundle = new_exception(module, "BundleError", error,
                               "The bundle on disk is damaged, unsafe, newer, or disagrees with itself.");
  types.provider = new_exception(module, "ProviderError", error,
                                 "The inference engine or the provider asked for is not available.");
  types.argument = new_exception(module, "ArgumentError",
                                 py::make_tuple(error, py::reinterpret_borrow<py::object>(PyExc_ValueError)),
                                 "An argument is outside what the policy or the function accepts.");
  types.policy = new_exception(module, "PolicyError", error,
                               "A tick that was not ok; `status` says why, e.g. \"not_reset\" or \"busy\".");
  py::register_exception_translator(&translate);
  module.def(
      "expected",
      [](const std::string& field, const std::string& wanted, py::handle got) {
        return expected(field, wanted, shown(got));
      },
      py::arg("field"), py::arg("wanted"), py::arg("got"),
      "The message \"field: expected wanted, got ..\", of bounded length whatever `got` is.");
}

}  // namespace keystep::python
