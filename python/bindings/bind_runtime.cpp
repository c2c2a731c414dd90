#include "py_runtime.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

py::dict progress_dict(PyRuntime& self) {
  const PlanProgress progress = self.plan_progress();
  return py::dict("plans"_a = progress.plans, "subgoal"_a = progress.subgoal, "actions"_a = progress.actions);
}

py::dict stage_dict(const StageLatency& stage) {
  return py::dict("count"_a = stage.count, "mean_us"_a = stage.mean_us, "p50_us"_a = stage.p50_us,
                  "p90_us"_a = stage.p90_us, "p99_us"_a = stage.p99_us, "p999_us"_a = stage.p999_us,
                  "max_us"_a = stage.max_us);
}

}  // namespace

py::list choice_list(const std::vector<EngineChoice>& choices) {
  py::list all;
  for (const EngineChoice& choice : choices) {
    all.append(py::dict("file"_a = choice.file, "engine"_a = choice.engine, "reason"_a = choice.reason));
  }
  return all;
}

py::dict latency_dict(const LatencyReport& report, const std::string& engine,
                      const std::vector<EngineChoice>& choices, std::uint64_t allocations) {
  py::dict stages;
  for (int i = 0; i < kStages; ++i) {
    stages[name(static_cast<Stage>(i))] = stage_dict(report.stages[static_cast<std::size_t>(i)]);
  }
  return py::dict("engine"_a = engine, "engine_choices"_a = choice_list(choices), "stages"_a = stages,
                  "actions"_a = report.actions, "plans"_a = report.plans, "chunks"_a = report.chunks,
                  "interrupts"_a = report.interrupts, "deadline_misses"_a = report.deadline_misses,
                  "deadline_us"_a = report.deadline_us, "time_per_action_us"_a = report.time_per_action_us,
                  "allocations"_a = allocations, "rejected_plans"_a = report.gate.rejected_plans,
                  "rejected_chunks"_a = report.gate.rejected_chunks,
                  "bounded_values"_a = report.gate.bounded_values,
                  "rate_limited_values"_a = report.gate.rate_limited_values,
                  "stale_observations"_a = report.gate.stale_observations);
}

Runtime& runtime_of(py::handle runtime) { return py::cast<PyRuntime&>(runtime).runtime(); }

void bind_runtime(py::module_& module) {
  module.def("now_us", &now_us, "Microseconds of the steady clock that `timestamp_us` is compared with.");
  py::class_<PyRuntime>(module, "Runtime", "What `keystep.Runtime` wraps; see there.")
      .def(py::init<py::handle, const RuntimeOptions&>(), py::arg("path"), py::arg("options"))
      .def("check_usable", &PyRuntime::check_usable)
      .def("session", &PyRuntime::session)
      .def("reset", &PyRuntime::reset, py::arg("task"), py::arg("instruction"), py::arg("goal"),
           py::arg("seed"), py::arg("episode"), py::arg("guidance"), py::arg("subgoals"))
      .def("find_task", &PyRuntime::find_task, py::arg("task"))
      .def("about", &PyRuntime::about)
      .def("is_about", &PyRuntime::is_about, py::arg("told"))
      .def("text_warning", &PyRuntime::text_warning, py::arg("instruction"))
      .def("act", &PyRuntime::act, py::arg("observation"))
      .def("predict_chunk", &PyRuntime::predict_chunk, py::arg("observation"), py::arg("noise"),
           py::arg("previous"), py::arg("delay"), py::arg("overlap"), py::arg("rule"), py::arg("decay"))
      .def(
          "serve_chunk",
          [](PyRuntime& self, const py::list& frames, py::handle consumed, py::handle ahead,
             py::handle continues, py::handle previous, py::handle delay, py::handle overlap, py::handle rule,
             py::handle decay) {
            return self.serve_chunk(frames, consumed, ahead, continues,
                                    self.continuation(previous, delay, overlap, rule, decay));
          },
          py::arg("frames"), py::arg("consumed"), py::arg("ahead"), py::arg("continues"), py::arg("previous"),
          py::arg("delay"), py::arg("overlap"), py::arg("rule"), py::arg("decay"))
      .def("predict_plan", &PyRuntime::predict_plan, py::arg("observation"), py::arg("noise"))
      .def("predict_candidates", &PyRuntime::predict_candidates, py::arg("observation"), py::arg("noise"))
      .def("plan", &PyRuntime::plan)
      .def("candidates", &PyRuntime::candidates)
      .def("plan_progress", &progress_dict)
      .def("interrupt", &PyRuntime::interrupt)
      .def("replan", &PyRuntime::replan)
      .def("latency",
           [](PyRuntime& self) {
             const Runtime& runtime = self.runtime();
             return latency_dict(self.latency(), runtime.engine_description(), runtime.engine_choices(),
                                 self.tick_allocations());
           })
      .def("telemetry", [](PyRuntime& self) { return telemetry_dict(self.runtime().telemetry()); })
      .def_property_readonly("mode", [](PyRuntime& self) { return self.runtime().options().mode; })
      .def_property_readonly(
          "virtual_time", [](PyRuntime& self) { return self.runtime().options().virtual_time.has_value(); })
      .def("reset_latency", &PyRuntime::reset_latency)
      .def("close", &PyRuntime::close)
      .def_property_readonly("closed", [](PyRuntime& self) { return self.runtime().closed(); })
      .def_property_readonly("needs_task",
                             [](PyRuntime& self) { return needs_task(self.runtime().bundle()); })
      .def_property_readonly("manifest_json",
                             [](PyRuntime& self) { return self.runtime().bundle().manifest_json; })
      .def_property_readonly("engine_choices",
                             [](PyRuntime& self) { return choice_list(self.runtime().engine_choices()); })
      .def_property_readonly("tracer", [](PyRuntime& self) { return self.runtime().options().tracer; })
      .def_property_readonly("engine_description",
                             [](PyRuntime& self) { return self.runtime().engine_description(); });
}

}  // namespace keystep::python
