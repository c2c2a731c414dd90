#include "bindings.hpp"

namespace keystep::python {
using namespace py::literals;

py::dict telemetry_dict(const Telemetry& seen) {
  py::dict underruns;
  for (int i = 0; i < kCauses; ++i) {
    underruns[name(static_cast<Cause>(i))] = seen.underruns[static_cast<std::size_t>(i)];
  }
  return py::dict(
      "ticks"_a = seen.ticks, "actions"_a = seen.actions, "underruns"_a = underruns, "chunks"_a = seen.chunks,
      "chunks_outdated"_a = seen.chunks_outdated, "chunks_continued"_a = seen.chunks_continued,
      "chunks_beyond_max_delay"_a = seen.chunks_beyond_max_delay, "chunks_failed"_a = seen.chunks_failed,
      "plans"_a = seen.plans, "plans_failed"_a = seen.plans_failed, "late_goals"_a = seen.late_goals,
      "hangs"_a = seen.hangs, "interrupts"_a = seen.interrupts, "consumed"_a = seen.consumed,
      "left"_a = seen.left, "delay"_a = seen.delay, "max_delay"_a = seen.max_delay,
      "expected_delay"_a = seen.expected_delay, "usual_delay"_a = seen.usual_delay,
      "hung"_a = seen.hung != 0);
}

}  // namespace keystep::python
