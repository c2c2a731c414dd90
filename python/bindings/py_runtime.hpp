// What `keystep.Runtime` wraps: the runtime with what a call from Python needs around it.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "candidate_arrays.hpp"
#include "continuation_reader.hpp"
#include "convert.hpp"
#include "noise_reader.hpp"
#include "observation_reader.hpp"
#include "signals.hpp"

namespace keystep::python {

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

}  // namespace keystep::python
