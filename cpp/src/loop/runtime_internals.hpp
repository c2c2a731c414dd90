// For code of our own that brings a planner or an engine: the loop is the same, whoever plans and computes.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include "keystep/runtime.hpp"
#include "loop/async/async_loop.hpp"
#include "policy/controller.hpp"
#include "policy/planner.hpp"

namespace keystep {

using PlannerFactory = std::function<std::unique_ptr<Planner>(const Policy&, Tensors&)>;

struct RuntimeInternals {
  static std::unique_ptr<Runtime> open(const std::filesystem::path& bundle, const RuntimeOptions& options,
                                       const PlannerFactory& planner = &make_planner,
                                       const EngineFactory& engine = &make_engine);
  static AsyncLoop& async(Runtime& runtime) noexcept;  ///< of a runtime in this mode
  static const Controller& controller(const Runtime& runtime) noexcept;

  // For a clock of ours, of which there is one at a time.
  static bool take_clock(Runtime& runtime) noexcept;
  static void leave_clock(Runtime& runtime) noexcept;
  /// A clock ran in this episode before: what is left of its chunk is of another moment.
  static bool was_clocked(const Runtime& runtime) noexcept;
  /// The robot was given this by the clock: what comes next goes on from it.
  static void given(Runtime& runtime, std::span<const float> action) noexcept;
};

}  // namespace keystep
