// What a loaded graph can do: rows chosen per run, sessions that share it, a cache that is set back. Without
// ONNX Runtime only the stub's part runs.
#include <algorithm>
#include <numeric>
#include <random>

#include "graph_bench.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Two rows, then the first alone, then two again: the same numbers, and the null row's memory is left alone.
void rows_are_chosen_per_run(const EngineOptions& options, const std::string& file) {
  Bench bench(options);
  const auto graph = bench.load(file, plan_spec(2), {2, 1});
  for (const std::int64_t timestep : {900, 30, 0}) {
    fill_plan(bench, timestep);
    CHECK(graph->run(2) == Status::ok);
    const auto pair = bench.values("plan.model_output", 2 * kPlan);
    for (std::size_t i = 0; i < 2 * kPlan; ++i) {
      CHECK_NEAR(pair[i], predicted(i / kPlan, i % kPlan, static_cast<double>(timestep)), 1e-6);
    }
    std::fill_n(bench.data<float>("plan.model_output"), 2 * kPlan, 77.0f);
    CHECK(graph->run(1) == Status::ok);
    const auto single = bench.values("plan.model_output", 2 * kPlan);
    CHECK(std::equal(single.begin(), single.begin() + kPlan, pair.begin()));
    CHECK(std::all_of(single.begin() + kPlan, single.end(), [](float value) { return value == 77.0f; }));
  }
  CHECK(graph->run(3) == Status::engine_failure);
  CHECK(graph->error() == "rows: expected a number that the graph was loaded for, got 3");
}

/// Two sessions on one model: each has its own numbers, and ends when it wants.
void sessions_share_a_model(const EngineOptions& options, const std::string& file) {
  Bench bench(options);
  auto first = bench.load(file, plan_spec(2), {2, 1});
  const auto model = bench.engine->load(files_in(bench.folder.path()), plan_spec(2), {2, 1});
  const auto tensors = bench.engine->tensors();
  CHECK_THROWS(BundleError, "plan.sample: expected a tensor, got none of that name", model->bind(*tensors));
  tensors->add(plan_spec(2));
  auto graph = model->bind(*tensors), again = model->bind(*bench.tensors);
  fill_plan(bench, 30);
  CHECK(first->run(2) == Status::ok && graph->run(2) == Status::ok);
  const auto* zeros = static_cast<float*>(tensors->at(plan_spec(2).outputs[0]).data);
  CHECK(std::all_of(zeros, zeros + 2 * kPlan, [](float value) { return value == 0; }));
  const auto wanted = bench.values("plan.model_output", 2 * kPlan);
  graph->terminate();  // ends a run of that graph only
  CHECK(first->run(2) == Status::ok && again->run(2) == Status::ok);
  CHECK(bench.values("plan.model_output", 2 * kPlan) == wanted);
  first.reset();
  again.reset();
  graph->run(2);
  CHECK(graph->run(2) == Status::ok);
}

constexpr int kRoom = 8, kMost = 3;
GraphSpec cache_spec() {
  return {"decode.onnx",
          "",
          {floats("sample", {kMost, kWidth}, "sample"),
           {"length", DType::int64, {1}, "length"},
           floats("past", {kRoom, kWidth}, "cache.memory")},
          {floats("present", {kRoom, kWidth}, "cache.memory"),
           floats("model_output", {kMost, kWidth}, "model_output")},
          {},
          {},
          kMost};
}

/// What a cache must do, said slowly: the values that are remembered, in order.
struct SlowCache {
  std::vector<float> kept;
  std::vector<float> append(const std::vector<float>& values) {
    std::vector<float> sums;
    for (const float value : values) {
      kept.push_back(value);
      sums.push_back(std::accumulate(kept.begin(), kept.end(), 0.0f));
    }
    return sums;
  }
};

/// Runs of one, two and three rows, and lengths set back, at random: each row sees what is remembered and no
/// more, though the memory behind it still holds what was forgotten.
void caches_are_set_back() {
  Bench bench(kOrt);
  const auto graph = bench.load(cache_graph(kRows, kRoom, kWidth), cache_spec(), {1, 2, 3});
  CHECK(bench.data<float>("past") == bench.data<float>("present"));
  SlowCache slow;
  std::mt19937 random(1);
  int full = 0, forgotten = 0;
  for (int step = 0; step < 400; ++step) {
    if (random() % 4 == 0) {
      slow.kept.resize(random() % (slow.kept.size() + 1));
      graph->set_length(static_cast<std::int64_t>(slow.kept.size()));
      ++forgotten;
    }
    const int rows = 1 + static_cast<int>(random() % kMost);
    std::vector<float> values;
    for (int row = 0; row < rows; ++row) {
      values.push_back(static_cast<float>(random() % 100));
      std::fill_n(bench.data<float>("sample") + row * kWidth, kWidth, values.back());
    }
    const bool fits = slow.kept.size() + values.size() <= kRoom;
    CHECK((graph->run(rows) == Status::ok) == fits);
    full += !fits;
    if (!fits) CHECK(graph->error().starts_with("cache: expected room for " + std::to_string(rows)));
    const std::vector<float> wanted = fits ? slow.append(values) : std::vector<float>();
    for (std::size_t row = 0; row < wanted.size(); ++row) {
      CHECK(bench.data<float>("model_output")[row * kWidth + 1] == wanted[row]);
    }
    CHECK(graph->length() == static_cast<std::int64_t>(slow.kept.size()));
  }
  CHECK(full > 20 && forgotten > 50);
  graph->set_length(100);  // no more than there are
  CHECK(graph->length() == static_cast<std::int64_t>(slow.kept.size()));

  GraphSpec without = cache_spec();
  without.inputs[1].role = "timestep";
  CHECK_THROWS(BundleError, "inputs: expected a tensor with the role length, got none",
               Bench(kOrt).load(cache_graph(kRows, kRoom, kWidth), without, {1, 2, 3}));
}

}  // namespace

int main() {
  rows_are_chosen_per_run(kStub, "");
  sessions_share_a_model(kStub, "");
  if (!has_onnxruntime()) return failures ? result() : kSkipped;
  rows_are_chosen_per_run(kOrt, plan_denoise_graph(kRows, kSubgoals, kDim, kWidth));
  sessions_share_a_model(kOrt, plan_denoise_graph(kRows, kSubgoals, kDim, kWidth));
  caches_are_set_back();
  return result();
}
