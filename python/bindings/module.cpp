#include "bind_code.hpp"
#include "bindings.hpp"
#include "signals.hpp"

PYBIND11_MODULE(_keystep, module) {
  using namespace keystep::python;
  module.attr("__version__") = KEYSTEP_VERSION;
  watch_signals();
  bind_errors(module);
  bind_bundle(module);
  bind_noise(module);
  bind_sampler(module);
  bind_trace(module);
  bind_merge(module);
  bind_options(module);
  bind_runtime(module);
  bind_shared_arrays(module);
  bind_fixed_rate(module);
  bind_code(module);
  bind_code_runtime(module);
  bind_constraint(module);
}

/// Before pybind11, which waits for ever in a subinterpreter.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit__keystep();
  PyErr_SetString(PyExc_ImportError,
                  "keystep: expected the main interpreter, got a subinterpreter; use threads or processes");
  return nullptr;
}
