// The chunk before, from Python.
#pragma once

#include "convert.hpp"
#include "keystep/continuation.hpp"

namespace keystep::python {

/// Keeps the array that `view` reads.
struct ReadContinuation {
  Continuation view;
  py::array previous;
};

/// `previous`: None (nothing is continued) or float32 (rows, `dim`). Raises ArgumentError.
ReadContinuation read_continuation(py::handle previous, py::handle delay, py::handle overlap, py::handle rule,
                                   py::handle decay, py::ssize_t dim);

}  // namespace keystep::python
