// Candidates of a plan, for Python.
#pragma once

#include <span>
#include <vector>

#include "convert.hpp"

namespace keystep::python {

/// Plans and scores in new arrays.
struct CandidateArrays {
  explicit CandidateArrays(const std::vector<py::ssize_t>& shape)
      : plans(shape),
        scores(shape[0]),
        view{{plans.mutable_data(), static_cast<std::size_t>(plans.size())},
             {scores.mutable_data(), static_cast<std::size_t>(scores.size())}} {}
  py::tuple tuple() const { return py::make_tuple(plans, scores, view.chosen); }

  py::array_t<float> plans, scores;
  PlanCandidates view;
};

}  // namespace keystep::python
