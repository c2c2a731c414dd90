// Graphs of a planner straight through an engine: files, tensors, and what a step must give.
#pragma once

#include <fstream>
#include <type_traits>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/engine.hpp"
#include "tiny_onnx.hpp"

namespace keystep::test {

constexpr int kSubgoals = 3, kDim = 2, kWidth = 4;
constexpr std::size_t kPlan = kSubgoals * kDim;

inline TensorSpec floats(const std::string& name, std::vector<std::int64_t> shape, const std::string& role) {
  return {name, DType::float32, std::move(shape), role};
}
inline const TensorSpec kText = {"text", DType::string, {1}, "text"};
inline const TensorSpec kTime = {"plan.timestep", DType::int64, {1}, "timestep"};
inline TensorSpec goal_text(std::int64_t rows) { return floats("goal_text", {rows, kWidth}, "condition"); }

inline GraphSpec text_spec(int rows = 2) {
  return {"text.onnx", "", {kText}, {goal_text(rows)}, {}, {}, rows};
}
inline GraphSpec plan_spec(int rows) {
  return {"plan_denoise.onnx",
          "",
          {floats("plan.sample", {rows, kSubgoals, kDim}, "sample"), kTime, goal_text(rows)},
          {floats("plan.model_output", {rows, kSubgoals, kDim}, "model_output")},
          {},
          {},
          rows};
}

/// Graph files, an engine, and the tensors that its graphs are bound to.
struct Bench {
  explicit Bench(const EngineOptions& options) : engine(make_engine(options)), tensors(engine->tensors()) {}
  std::unique_ptr<Graph> load(const std::string& file, const GraphSpec& spec, std::vector<int> rows = {}) {
    std::ofstream(folder.path() / spec.file, std::ios::binary) << file;
    return bound(*engine, files_in(folder.path()), spec, *tensors, std::move(rows));
  }
  template <class T>
  T* data(const std::string& name) const {
    const DType dtype = std::is_same_v<T, float>          ? DType::float32
                        : std::is_same_v<T, std::int64_t> ? DType::int64
                                                          : DType::string;
    return static_cast<T*>(tensors->at({name, dtype, {1}, ""}).data);
  }
  std::vector<float> values(const std::string& name, std::size_t count) const {
    return {data<float>(name), data<float>(name) + count};
  }

  TemporaryFolder folder;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Tensors> tensors;
};

inline const EngineOptions kStub = {.engine = "stub"};
inline const EngineOptions kOrt = {.threads = 1};

inline void fill_plan(const Bench& bench, std::int64_t timestep) {
  *bench.data<std::int64_t>("plan.timestep") = timestep;
  for (std::size_t i = 0; i < 2 * kPlan; ++i) {
    bench.data<float>("plan.sample")[i] = 0.5f * static_cast<float>(i % kPlan) - 1;
  }
  for (std::size_t i = 0; i < 2 * kWidth; ++i) bench.data<float>("goal_text")[i] = i < kWidth ? 2.0f : -1.0f;
}

inline double predicted(std::size_t row, std::size_t i, double timestep) {
  return 0.1 * (0.5 * static_cast<double>(i) - 1) + 0.001 * timestep + (row == 0 ? 2 : -1);
}

inline bool has_onnxruntime() {
  try {
    make_engine(kOrt);
    return true;
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

}  // namespace keystep::test
