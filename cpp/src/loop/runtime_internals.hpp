// For code of our own that brings a planner or an engine: the loop is the same, whoever plans and computes.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

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
};

}  // namespace keystep
