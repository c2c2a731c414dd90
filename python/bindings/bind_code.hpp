// Apart from bindings.hpp, which all include.
#pragma once

#include "bindings.hpp"

namespace keystep::python {

/// What a planner that writes reads and remembers, for tests beside keystep.code.
void bind_code(py::module_& module);
/// After the options.
void bind_code_runtime(py::module_& module);
/// What its replies may say, for tests beside keystep.code.constraint.
void bind_constraint(py::module_& module);

}  // namespace keystep::python
