// What `keystep.Runtime` wraps: the runtime with what a call from Python needs around it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "candidate_arrays.hpp"
#include "continuation_reader.hpp"
#include "convert.hpp"
#include "noise_reader.hpp"
#include "py_session.hpp"

namespace keystep::python {

class PyRuntime : public PySession<Runtime> {
 public:
  PyRuntime(py::handle bundle, const RuntimeOptions& options)
      : PySession([&, folder = path(bundle, "path")](std::shared_ptr<Attendant> attendant) {
          RuntimeOptions all = options;
          all.attendant = std::move(attendant);
          return std::make_unique<Runtime>(folder, std::move(all));
        }) {}

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
      read = reader().read(goal, "goal: ");
      context.goal = read.view();
    }
    std::vector<ReadObservation> given;
    if (!subgoals.is_none()) {
      given = reader().read_subgoals(subgoals, planner("subgoals").subgoal);
      if (given.empty()) throw ArgumentError(expected("subgoals", "at least one", "none"));
    }
    for (const ReadObservation& subgoal : given) context.subgoals.push_back(subgoal.view());
    call([&] { runtime().reset(context); });
  }

  /// The name of a task given by name or instruction.
  std::string find_task(py::handle given) const {
    const std::string task = text(given, "task");
    const Bundle& bundle = runtime().bundle();
    return bundle.tasks[static_cast<std::size_t>(keystep::find_task(bundle, task))].name;
  }

  std::string about() const { return runtime().about(); }

  /// What is no text is no task.
  bool is_about(py::handle told) const {
    const std::optional<std::string> given = utf8(told);
    return given && runtime().is_about(*given);
  }

  /// Empty where `reset` raises it.
  std::string text_warning(py::handle instruction) const {
    return runtime().options().strict_text ? "" : runtime().text_warning(text(instruction, "instruction"));
  }

  py::array_t<float> act(py::handle dictionary) {
    check_usable();
    const ReadObservation read = reader().read(dictionary);
    Action action = runtime().make_action();
    call_step([&](std::string& message) { return runtime().tick(read.view(), action, &message); });
    return py::array_t<float>(std::ssize(action.values), action.values.data());
  }

  py::array_t<float> predict_chunk(py::handle dictionary, py::handle noise, py::handle previous,
                                   py::handle delay, py::handle overlap, py::handle rule, py::handle decay) {
    check_usable();
    const ReadObservation read = reader().read(dictionary);
    const py::ssize_t dim = std::ssize(runtime().bundle().action.names);
    const ReadContinuation continued = read_continuation(previous, delay, overlap, rule, decay, dim);
    const Shape shape = {runtime().bundle().chunk.horizon, dim};
    return predict(shape, shape, noise,
                   [&](std::span<const float> given, std::span<float> out, std::string& message) {
                     return runtime().predict_chunk(read.view(), given, out, &message, continued.view);
                   });
  }

  /// Rows (rows, A), number of the goal, the index it counts from, that of the next one or None, whether a
  /// plan was made. `frames`: observations, oldest first.
  py::tuple serve_chunk(const py::list& frames, py::handle consumed, py::handle ahead, py::handle continues,
                        const ReadContinuation& continued) {
    check_usable();
    std::vector<ReadObservation> read;
    for (const py::handle frame : frames) read.push_back(reader().read(frame));
    std::vector<Observation> views;
    for (const ReadObservation& frame : read) views.push_back(frame.view());
    const Bundle& bundle = runtime().bundle();
    const ChunkRequest request{.consumed = integer<std::int64_t>(consumed, "consumed"),
                               .ahead = integer<std::int64_t>(ahead, "ahead"),
                               .continues = integer<std::uint64_t>(continues, "goal"),
                               .continuation = continued.view};
    py::array_t<float> rows(
        Shape{bundle.chunk.horizon - bundle.chunk.start, std::ssize(bundle.action.names)});
    const std::span<float> out(rows.mutable_data(), static_cast<std::size_t>(rows.size()));
    ServedChunk served;
    call_step(
        [&](std::string& message) { return runtime().serve_chunk(views, request, out, served, &message); });
    const py::object until =
        served.until == ServedChunk::kNever ? py::none() : py::object(py::int_(served.until));
    return py::make_tuple(rows, served.goal, served.begins, until, served.planned);
  }

  /// What the chunk before still has, as `serve_chunk` and `predict_chunk` take it.
  ReadContinuation continuation(py::handle previous, py::handle delay, py::handle overlap, py::handle rule,
                                py::handle decay) {
    return read_continuation(previous, delay, overlap, rule, decay,
                             std::ssize(runtime().bundle().action.names));
  }

  /// (M, S) physical units, or (M, 3, height, width) with 0..1 for black..white.
  py::array_t<float> predict_plan(py::handle dictionary, py::handle noise) {
    check_usable();
    const Shape shape = plan_shape("predict_plan");
    const ReadObservation read = reader().read(dictionary);
    return predict(shape, candidates_shape(shape, true), noise,
                   [&](std::span<const float> given, std::span<float> out, std::string& message) {
                     return runtime().predict_plan(read.view(), given, out, &message);
                   });
  }

  /// The same of all candidates, (N, M, S): plans, scores (N,), the index of the best.
  py::tuple predict_candidates(py::handle dictionary, py::handle noise) {
    check_usable();
    const Shape shape = plan_shape("predict_candidates");
    const ReadObservation read = reader().read(dictionary);
    CandidateArrays arrays(candidates_shape(shape, false));
    predict(arrays.plans, candidates_shape(shape, true), noise,
            [&](std::span<const float> given, std::span<float>, std::string& message) {
              return runtime().predict_candidates(read.view(), given, arrays.view, &message);
            });
    return arrays.tuple();
  }

  /// What the plan being followed was chosen from; None where there is none, or it was handed in.
  py::object candidates() const {
    check_usable();
    CandidateArrays arrays(candidates_shape(plan_shape("candidates"), false));
    Status status = Status::ok;
    const bool followed = runtime().candidates(arrays.view, &status);
    admit(status);
    return followed ? py::object(arrays.tuple()) : py::none();
  }

  /// The same of the plan being followed; None where there is none.
  py::object plan() const {
    check_usable();
    py::array_t<float> plan(plan_shape("plan"));
    Status status = Status::ok;
    const bool followed =
        runtime().plan({plan.mutable_data(), static_cast<std::size_t>(plan.size())}, &status);
    admit(status);
    return followed ? py::object(plan) : py::none();
  }

  PlanProgress plan_progress() const {
    Status status = Status::ok;
    const PlanProgress progress = runtime().plan_progress(&status);
    admit(status);
    return progress;
  }

  void replan() {
    check_usable();
    runtime().replan();
  }

 private:
  explicit PyRuntime(const PyRuntime& of)
      : PySession([&](std::shared_ptr<Attendant> attendant) {
          return of.runtime().session(std::move(attendant));
        }) {}

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
    const Bundle& bundle = runtime().bundle();
    if (bundle.planner) return *bundle.planner;
    throw ArgumentError(expected(asked, "a bundle with a planner", "family " + bundle.family));
  }

  Shape plan_shape(const std::string& asked) const {
    Shape shape = {planner(asked).subgoals};
    for (const std::int64_t extent : subgoal_shape(runtime().bundle())) shape.push_back(extent);
    return shape;
  }

  /// Of all candidates. `as_noise`: a single one's noise is that of a plan.
  Shape candidates_shape(Shape plan, bool as_noise) const {
    const int count = runtime().options().planner_candidates;
    if (count > 1 || !as_noise) plan.insert(plan.begin(), count);
    return plan;
  }
};

}  // namespace keystep::python
