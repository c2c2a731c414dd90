#include <pybind11/stl.h>

#include "convert.hpp"

namespace keystep::python {
namespace {

/// The path of a library, as dlopen takes it.
template <class T>
void bind_path(py::class_<T>& type, const char* name, std::string T::* member) {
  type.def_property(
      name, [member](const T& self) { return self.*member; },
      [member, name](T& self, py::handle value) { self.*member = path(value, name).string(); });
}

}  // namespace

void bind_options(py::module_& module) {
  py::class_<EngineOptions> engine(module, "EngineOptions", "Arguments of `keystep.load`; see there.");
  engine.def(py::init());
  bind_field(engine, "engine", &EngineOptions::engine);
  bind_field(engine, "provider", &EngineOptions::provider);
  bind_field(engine, "threads", &EngineOptions::threads);
  bind_field(engine, "optimization", &EngineOptions::optimization);
  bind_path(engine, "onnxruntime_library", &EngineOptions::onnxruntime_library);
  bind_path(engine, "extensions_library", &EngineOptions::extensions_library);
  bind_field(engine, "provider_options", &EngineOptions::provider_options);
  bind_field(engine, "precision", &EngineOptions::precision);
  bind_field(engine, "isa", &EngineOptions::isa);
  bind_field(engine, "pin_threads", &EngineOptions::pin_threads);
  bind_field(engine, "spin_us", &EngineOptions::spin_us);
  py::class_<AsyncOptions> asynchronous(module, "AsyncOptions", "Arguments of `keystep.load`; see there.");
  asynchronous.def(py::init());
  bind_field(asynchronous, "underrun", &AsyncOptions::underrun);
  bind_field(asynchronous, "merge", &AsyncOptions::merge);
  bind_field(asynchronous, "merge_decay", &AsyncOptions::merge_decay);
  bind_field(asynchronous, "merge_overlap", &AsyncOptions::merge_overlap);
  bind_field(asynchronous, "request_below", &AsyncOptions::request_below);
  bind_field(asynchronous, "blend_actions", &AsyncOptions::blend_actions);
  bind_field(asynchronous, "ensemble_decay", &AsyncOptions::ensemble_decay);
  bind_field(asynchronous, "plan_ahead", &AsyncOptions::plan_ahead);
  bind_field(asynchronous, "watchdog_us", &AsyncOptions::watchdog_us);
  py::class_<RuntimeOptions> runtime(module, "RuntimeOptions", "Arguments of `keystep.load`; see there.");
  runtime.def(py::init()).def_readwrite("engine", &RuntimeOptions::engine);
  runtime.def_readwrite("asynchronous", &RuntimeOptions::async);  // async is a keyword of Python
  bind_field(runtime, "mode", &RuntimeOptions::mode);
  bind_field(runtime, "inference_steps", &RuntimeOptions::inference_steps);
  bind_field(runtime, "sampler", &RuntimeOptions::sampler);
  bind_field(runtime, "planner_steps", &RuntimeOptions::planner_steps);
  bind_field(runtime, "planner_sampler", &RuntimeOptions::planner_sampler);
  bind_field(runtime, "planner_candidates", &RuntimeOptions::planner_candidates);
  bind_field(runtime, "planner_score", &RuntimeOptions::planner_score);
  bind_field(runtime, "replan", &RuntimeOptions::replan);
  bind_field(runtime, "strict_text", &RuntimeOptions::strict_text);
  bind_field(runtime, "deadline_us", &RuntimeOptions::deadline_us);
  bind_field(runtime, "max_observation_age_us", &RuntimeOptions::max_observation_age_us);
  bind_field(runtime, "clock", &RuntimeOptions::clock);
  runtime.def_readwrite("tracer", &RuntimeOptions::tracer);
  runtime.def(
      "in_virtual_time",
      [](RuntimeOptions& self, py::handle chunk, py::handle plan, py::handle skips) {
        self.virtual_time =
            VirtualTime{numbers(chunk, "virtual_time.chunk"), numbers(plan, "virtual_time.plan"),
                        flag(skips, "virtual_time.skips")};
      },
      py::arg("chunk"), py::arg("plan"), py::arg("skips"));
}

}  // namespace keystep::python
