#include "bindings.hpp"

PYBIND11_MODULE(_core, module) {
  using namespace keystep::python;
  module.attr("__version__") = KEYSTEP_VERSION;
  bind_errors(module);
  bind_bundle(module);
  bind_noise(module);
  bind_sampler(module);
  bind_runtime(module);
}
