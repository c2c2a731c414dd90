#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>

#include "continuation_reader.hpp"
#include "convert.hpp"
#include "observation_reader.hpp"
#include "signals.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

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

/// The runtime with what a call from Python needs around it.
class PyRuntime {
 public:
  PyRuntime(py::handle bundle, const RuntimeOptions& options)
      : runtime_(open(path(bundle, "path"), options)), reader_(runtime_->bundle().observation) {}

  /// Another session on the same weights.
  std::unique_ptr<PyRuntime> session() const {
    check_usable();
    return std::unique_ptr<PyRuntime>(new PyRuntime(*this));
  }

  void reset(py::handle task, py::handle instruction, py::handle goal, py::handle seed, py::handle episode,
             py::handle guidance, py::handle subgoals) {
    check_usable();
    EpisodeContext context{.task = text(task, "task"),
                           .seed = integer<std::uint64_t>(seed, "seed"),
                           .episode = integer<std::uint32_t>(episode, "episode"),
                           .guidance = convert<std::optional<double>>(guidance, "guidance"),
                           .instruction = text(instruction, "instruction")};
    ReadObservation read;
    if (!goal.is_none()) {
      read = reader_.read(goal, "goal: ");
      context.goal = read.view();
    }
    std::vector<ReadObservation> given;
    if (!subgoals.is_none()) {
      given = reader_.read_subgoals(subgoals, planner("subgoals").subgoal);
      if (given.empty()) throw ArgumentError(expected("subgoals", "at least one", "none"));
    }
    for (const ReadObservation& subgoal : given) context.subgoals.push_back(subgoal.view());
    call([&] { runtime_->reset(context); });
  }

  /// The name of a task given by name or instruction.
  std::string find_task(py::handle given) const {
    const std::string task = text(given, "task");
    const Bundle& bundle = runtime_->bundle();
    return bundle.tasks[static_cast<std::size_t>(keystep::find_task(bundle, task))].name;
  }

  std::string about() const { return runtime_->about(); }

  /// What is no text is no task.
  bool is_about(py::handle told) const {
    const std::optional<std::string> given = utf8(told);
    return given && runtime_->is_about(*given);
  }

  /// Empty where `reset` raises it.
  std::string text_warning(py::handle instruction) const {
    return runtime_->options().strict_text ? "" : runtime_->text_warning(text(instruction, "instruction"));
  }

  py::array_t<float> act(py::handle dictionary) {
    check_usable();
    const ReadObservation read = reader_.read(dictionary);
    Action action = runtime_->make_action();
    Status status;
    std::string message = std::move(message_room_);  // under the GIL: of whoever comes first
    message.reserve(kMessageBytes);                  // so that the message of a tick allocates nothing in it
    call([&] {
      const std::uint64_t before = allocation_count();
      status = runtime_->tick(read.view(), action, &message);
      tick_allocations_ += allocation_count() - before;
    });
    check(status, message);
    message_room_ = std::move(message);
    return py::array_t<float>(std::ssize(action.values), action.values.data());
  }

  py::array_t<float> predict_chunk(py::handle dictionary, py::handle noise, py::handle previous,
                                   py::handle delay, py::handle overlap, py::handle rule, py::handle decay) {
    check_usable();
    const ReadObservation read = reader_.read(dictionary);
    const py::ssize_t dim = std::ssize(runtime_->bundle().action.names);
    const ReadContinuation continued = read_continuation(previous, delay, overlap, rule, decay, dim);
    const Shape shape = {runtime_->bundle().chunk.horizon, dim};
    return predict(shape, shape, noise,
                   [&](std::span<const float> given, std::span<float> out, std::string& message) {
                     return runtime_->predict_chunk(read.view(), given, out, &message, continued.view);
                   });
  }

  /// (M, S) physical units, or (M, 3, height, width) with 0..1 for black..white.
  py::array_t<float> predict_plan(py::handle dictionary, py::handle noise) {
    check_usable();
    const Shape shape = plan_shape("predict_plan");
    const ReadObservation read = reader_.read(dictionary);
    return predict(shape, candidates_shape(shape, true), noise,
                   [&](std::span<const float> given, std::span<float> out, std::string& message) {
                     return runtime_->predict_plan(read.view(), given, out, &message);
                   });
  }

  /// The same of all candidates, (N, M, S): plans, scores (N,), the index of the best.
  py::tuple predict_candidates(py::handle dictionary, py::handle noise) {
    check_usable();
    const Shape shape = plan_shape("predict_candidates");
    const ReadObservation read = reader_.read(dictionary);
    CandidateArrays arrays(candidates_shape(shape, false));
    predict(arrays.plans, candidates_shape(shape, true), noise,
            [&](std::span<const float> given, std::span<float>, std::string& message) {
              return runtime_->predict_candidates(read.view(), given, arrays.view, &message);
            });
    return arrays.tuple();
  }

  /// What the plan being followed was chosen from; None where there is none, or it was handed in.
  py::object candidates() const {
    check_usable();
    CandidateArrays arrays(candidates_shape(plan_shape("candidates"), false));
    Status status = Status::ok;
    const bool followed = runtime_->candidates(arrays.view, &status);
    admit(status);
    return followed ? py::object(arrays.tuple()) : py::none();
  }

  /// The same of the plan being followed; None where there is none.
  py::object plan() const {
    check_usable();
    py::array_t<float> plan(plan_shape("plan"));
    Status status = Status::ok;
    const bool followed =
        runtime_->plan({plan.mutable_data(), static_cast<std::size_t>(plan.size())}, &status);
    admit(status);
    return followed ? py::object(plan) : py::none();
  }

  PlanProgress plan_progress() const {
    Status status = Status::ok;
    const PlanProgress progress = runtime_->plan_progress(&status);
    admit(status);
    return progress;
  }

  void replan() {
    check_usable();
    runtime_->replan();
  }

  void interrupt() {
    check_usable();
    runtime_->interrupt();
  }

  /// Any thread.
  void check_usable() const { admit(runtime_->usable()); }

  void close() {
    if (signals_->handling()) {  // by a handler that interrupts a call of ours
      close_later_ = true;
      signals_->give_up();
      return;
    }
    py::gil_scoped_release release;
    runtime_->close();
  }

  Runtime& runtime() const { return *runtime_; }
  std::uint64_t tick_allocations() const { return tick_allocations_; }
  LatencyReport latency() const {
    Status status = Status::ok;
    const LatencyReport report = runtime_->latency(&status);
    admit(status);
    return report;
  }
  void reset_latency() {
    admit(runtime_->reset_latency());
    tick_allocations_ = 0;
  }

 private:
  explicit PyRuntime(const PyRuntime& of)
      : runtime_(beside(*of.runtime_)), reader_(runtime_->bundle().observation) {}

  static void admit(Status status) {
    if (status != Status::ok) throw PolicyError(status);
  }

  std::unique_ptr<Runtime> open(const std::filesystem::path& bundle, RuntimeOptions options) {
    options.attendant = signals_;
    py::gil_scoped_release release;
    auto runtime = std::make_unique<Runtime>(bundle, std::move(options));
    signals_->attend(*runtime);
    return runtime;
  }

  std::unique_ptr<Runtime> beside(const Runtime& other) {
    py::gil_scoped_release release;
    auto runtime = other.session(signals_);
    signals_->attend(*runtime);
    return runtime;
  }

  /// `work` with the GIL released. A signal's handler that raises, closes or forks ends it; that is raised.
  /// What such a handler calls itself, in the midst of it, ends first, and must not wait for it.
  template <class Work>
  void call(const Work& work) {
    std::exception_ptr failure;
    try {
      py::gil_scoped_release release;
      work();
    } catch (const Error&) {
      failure = std::current_exception();
    }
    if (close_later_ && !signals_->handling()) {
      py::gil_scoped_release release;  // whoever else is inside may need it to come out
      runtime_->close();
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    if (close_later_ || failure) check_usable();
    if (failure) std::rethrow_exception(failure);
  }

  using Shape = std::vector<py::ssize_t>;

  /// `compute(noise, out, message)` with the GIL released, into a new array. `drawn`: of one draw of noise.
  template <class Compute>
  py::array_t<float> predict(const Shape& shape, const Shape& drawn, py::handle noise,
                             const Compute& compute) {
    py::array_t<float> result(shape);
    predict(result, drawn, noise, compute);
    return result;
  }

  template <class Compute>
  void predict(py::array_t<float>& result, const Shape& drawn, py::handle noise, const Compute& compute) {
    py::array given;
    if (!noise.is_none()) given = checked_noise(noise, drawn);
    const std::span<const float> noise_values = noise.is_none() ? std::span<const float>{} : values(given);
    const std::span<float> out(result.mutable_data(), static_cast<std::size_t>(result.size()));
    Status status;
    std::string message;
    call([&] { status = compute(noise_values, out, message); });
    check(status, message);
  }

  /// One sample of `shape`, or K of them.
  static py::array checked_noise(py::handle noise, const Shape& shape) {
    py::array array = float_array(noise, "noise");
    const py::ssize_t extra = array.ndim() - std::ssize(shape);
    const bool fits = (extra == 0 || (extra == 1 && array.shape(0) > 0)) &&
                      std::equal(shape.begin(), shape.end(), array.shape() + extra);
    if (!fits) {
      const std::string one = shape_text(shape.data(), std::ssize(shape));
      throw ArgumentError(expected("noise", "shape " + one + " or (K, " + one.substr(1),
                                   shape_text(array.shape(), array.ndim())));
    }
    check_finite(array);
    return array;
  }

  static void check_finite(const py::array& noise) {
    const std::span<const float> all = values(noise);
    const auto bad = std::ranges::find_if(all, [](float value) { return !std::isfinite(value); });
    if (bad == all.end()) return;
    py::ssize_t rest = bad - all.begin();
    std::string index;
    for (py::ssize_t axis = noise.ndim() - 1; axis >= 0; --axis) {
      index = std::to_string(rest % noise.shape(axis)) + (index.empty() ? "" : ", ") + index;
      rest /= noise.shape(axis);
    }
    throw ArgumentError(expected("noise[" + index + "]", "finite numbers", std::to_string(*bad)));
  }

  const PlannerSpec& planner(const std::string& asked) const {
    const Bundle& bundle = runtime_->bundle();
    if (bundle.planner) return *bundle.planner;
    throw ArgumentError(expected(asked, "a bundle with a planner", "family " + bundle.family));
  }

  Shape plan_shape(const std::string& asked) const {
    Shape shape = {planner(asked).subgoals};
    for (const std::int64_t extent : subgoal_shape(runtime_->bundle())) shape.push_back(extent);
    return shape;
  }

  /// Of all candidates. `as_noise`: a single one's noise is that of a plan.
  Shape candidates_shape(Shape plan, bool as_noise) const {
    const int count = runtime_->options().planner_candidates;
    if (count > 1 || !as_noise) plan.insert(plan.begin(), count);
    return plan;
  }

  static void check(Status status, const std::string& message) {
    if (status == Status::ok) return;
    const std::string what = describe(status);
    if (message.empty() || message == what) throw PolicyError(status);
    // What names a field says all; what an engine says does not tell that it is an engine's.
    throw PolicyError(status, status == Status::engine_failure ? what + ": " + message : message);
  }

  const std::shared_ptr<SignalAttendant> signals_ = std::make_shared<SignalAttendant>();
  std::unique_ptr<Runtime> runtime_;
  ObservationReader reader_;
  std::atomic<std::uint64_t> tick_allocations_ = 0;  // added to without the GIL
  static constexpr std::size_t kMessageBytes = 256;
  std::string message_room_;
  bool close_later_ = false;
};

py::dict progress_dict(PyRuntime& self) {
  const PlanProgress progress = self.plan_progress();
  return py::dict("plans"_a = progress.plans, "subgoal"_a = progress.subgoal, "actions"_a = progress.actions);
}

py::list choice_list(PyRuntime& self) {
  py::list all;
  for (const EngineChoice& choice : self.runtime().engine_choices()) {
    all.append(py::dict("file"_a = choice.file, "engine"_a = choice.engine, "reason"_a = choice.reason));
  }
  return all;
}

py::dict stage_dict(const StageLatency& stage) {
  return py::dict("count"_a = stage.count, "mean_us"_a = stage.mean_us, "p50_us"_a = stage.p50_us,
                  "p90_us"_a = stage.p90_us, "p99_us"_a = stage.p99_us, "p999_us"_a = stage.p999_us,
                  "max_us"_a = stage.max_us);
}

py::dict latency_dict(PyRuntime& self) {
  const LatencyReport report = self.latency();
  py::dict stages;
  for (int i = 0; i < kStages; ++i) {
    stages[name(static_cast<Stage>(i))] = stage_dict(report.stages[static_cast<std::size_t>(i)]);
  }
  return py::dict(
      "engine"_a = self.runtime().engine_description(), "engine_choices"_a = choice_list(self),
      "stages"_a = stages, "actions"_a = report.actions, "plans"_a = report.plans, "chunks"_a = report.chunks,
      "interrupts"_a = report.interrupts, "deadline_misses"_a = report.deadline_misses,
      "deadline_us"_a = report.deadline_us, "time_per_action_us"_a = report.time_per_action_us,
      "allocations"_a = self.tick_allocations(), "rejected_plans"_a = report.gate.rejected_plans,
      "rejected_chunks"_a = report.gate.rejected_chunks, "bounded_values"_a = report.gate.bounded_values,
      "rate_limited_values"_a = report.gate.rate_limited_values,
      "stale_observations"_a = report.gate.stale_observations);
}

}  // namespace

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
      .def("predict_plan", &PyRuntime::predict_plan, py::arg("observation"), py::arg("noise"))
      .def("predict_candidates", &PyRuntime::predict_candidates, py::arg("observation"), py::arg("noise"))
      .def("plan", &PyRuntime::plan)
      .def("candidates", &PyRuntime::candidates)
      .def("plan_progress", &progress_dict)
      .def("interrupt", &PyRuntime::interrupt)
      .def("replan", &PyRuntime::replan)
      .def("latency", &latency_dict)
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
      .def_property_readonly("engine_choices", &choice_list)
      .def_property_readonly("tracer", [](PyRuntime& self) { return self.runtime().options().tracer; })
      .def_property_readonly("engine_description",
                             [](PyRuntime& self) { return self.runtime().engine_description(); });
}

}  // namespace keystep::python
