// Graphs of a planner straight through the engines: strings in, rows chosen per run, custom operators, and
// the stub's closed forms. Without ONNX Runtime only the stub's part runs.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <random>
#include <type_traits>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/engine.hpp"
#include "tiny_onnx.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kSubgoals = 3, kDim = 2, kWidth = 4;
constexpr std::size_t kPlan = kSubgoals * kDim;

TensorSpec floats(const std::string& name, std::vector<std::int64_t> shape, const std::string& role) {
  return {name, DType::float32, std::move(shape), role};
}
const TensorSpec kText = {"text", DType::string, {1}, "text"};
const TensorSpec kTime = {"plan.timestep", DType::int64, {1}, "timestep"};
TensorSpec goal_text(std::int64_t rows) { return floats("goal_text", {rows, kWidth}, "condition"); }

GraphSpec text_spec(int rows = 2) { return {"text.onnx", "", {kText}, {goal_text(rows)}, {}, {}, rows}; }
GraphSpec plan_spec(int rows) {
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

const EngineOptions kStub = {.engine = "stub"};
const EngineOptions kOrt = {.threads = 1};

void fill_plan(const Bench& bench, std::int64_t timestep) {
  *bench.data<std::int64_t>("plan.timestep") = timestep;
  for (std::size_t i = 0; i < 2 * kPlan; ++i) {
    bench.data<float>("plan.sample")[i] = 0.5f * static_cast<float>(i % kPlan) - 1;
  }
  for (std::size_t i = 0; i < 2 * kWidth; ++i) bench.data<float>("goal_text")[i] = i < kWidth ? 2.0f : -1.0f;
}

double predicted(std::size_t row, std::size_t i, double timestep) {
  return 0.1 * (0.5 * static_cast<double>(i) - 1) + 0.001 * timestep + (row == 0 ? 2 : -1);
}

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
  auto first = bench.load(file, plan_spec(2));
  const auto model = bench.engine->load(files_in(bench.folder.path()), plan_spec(2), {2});
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
               Bench(kOrt).load(cache_graph(kRows, kRoom, kWidth), without));
}

void refuses_wrong_rows() {
  Bench bench(kOrt);
  GraphSpec larger = plan_spec(3);
  bench.load(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), plan_spec(2));
  CHECK_THROWS(BundleError, "plan.sample: expected no more than [2, 3, 2] of float32, got [3, 3, 2]",
               bench.load(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), larger));
  CHECK_THROWS(BundleError, "inputs[0].shape: expected [1, 3, 2] (manifest), got [2, 3, 2] (graph)",
               Bench(kOrt).load(plan_denoise_graph(2, kSubgoals, kDim, kWidth), plan_spec(2), {2, 1}));
}

/// Only the rows of guidance: no other axis, and not of a planner that has one row.
void refuses_other_symbolic_axes() {
  const auto refused = [](const std::string& file, const GraphSpec& spec, const std::string& message) {
    CHECK_THROWS(BundleError, message, Bench(kOrt).load(file, spec));
  };
  refused(plan_denoise_graph(2, kRows, kDim, kWidth), plan_spec(2),
          "inputs[0].shape: expected [2, 3, 2] (manifest), got [2, -1, 2] (graph)");
  refused(plan_denoise_graph(2, kSubgoals, kRows, kWidth), plan_spec(2), "got [2, 3, -1] (graph)");
  refused(plan_denoise_graph(2, kSubgoals, kDim, kRows), plan_spec(2),
          "inputs[2].shape: expected [2, 4] (manifest), got [2, -1] (graph)");
  refused(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), plan_spec(1),
          "inputs[0].shape: expected [1, 3, 2] (manifest), got [-1, 3, 2] (graph)");
}

void stub_reads_texts() {
  Bench bench(kStub);
  const auto text = bench.load("", text_spec());
  GraphSpec encode = {"plan_encode.onnx",
                      "",
                      {floats("plan.observation.state", {1, 2}, "observation.state"), goal_text(2)},
                      {floats("plan_film", {2, 3}, "condition")},
                      {},
                      {},
                      2};
  const auto plan_encode = bench.load("", encode);
  *bench.data<std::string>("text") = "AC";  // 65 and 67
  bench.data<float>("plan.observation.state")[0] = 3;
  CHECK(text->run(2) == Status::ok && plan_encode->run(2) == Status::ok);
  for (std::size_t i = 0; i < kWidth; ++i) {
    CHECK_NEAR(bench.data<float>("goal_text")[i], 66.0 / 256, 1e-7);
    CHECK(bench.data<float>("goal_text")[kWidth + i] == 0);
  }
  CHECK_NEAR(bench.data<float>("plan_film")[2], 1.5 + 66.0 / 256, 1e-6);
  CHECK(bench.data<float>("plan_film")[3] == 0);
  bench.data<std::string>("text")->clear();
  CHECK(text->run(2) == Status::ok);
  CHECK(bench.data<float>("goal_text")[0] == 0);
}

void stub_acts_and_sees_images() {
  Bench bench(kStub);
  GraphSpec spec = {
      "act.onnx",
      "",
      {floats("observation.state", {1, 2}, "observation.state"), floats("goal.state", {1, 2}, "goal.state")},
      {floats("actions", {1, 3, 2}, "actions")}};
  const auto act = bench.load("", spec);
  bench.data<float>("observation.state")[0] = 1;
  bench.data<float>("goal.state")[1] = 4;
  CHECK(act->run(1) == Status::ok);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK_NEAR(bench.data<float>("actions")[i], 2.5 + 0.01 * static_cast<double>(i / 2), 1e-6);
  }

  GraphSpec plan = plan_spec(2);
  plan.inputs.push_back(floats("plan.observation.images.top", {1, 3, 2, 2}, "observation.images.top"));
  const auto denoise = bench.load("", plan);
  fill_plan(bench, 10);
  std::fill_n(bench.data<float>("plan.observation.images.top"), 12, 0.25f);
  CHECK(denoise->run(2) == Status::ok);
  CHECK_NEAR(bench.data<float>("plan.model_output")[kPlan], predicted(1, 0, 10) + 0.25, 1e-6);
}

/// Every run reads the text anew, whatever its length; one that the graph cannot read fails and is told.
void texts_reach_the_graph() {
  Bench bench(kOrt);
  const auto text = bench.load(text_graph(kWidth), text_spec());
  std::string& words = *bench.data<std::string>("text");
  for (const auto& [written, number] : std::map<std::string, double>{
           {"2.5", 2.5}, {"-17", -17}, {std::string(10000, '0') + "1.25", 1.25}, {"3", 3}}) {
    words = written;
    CHECK(text->run(2) == Status::ok);
    CHECK_NEAR(bench.data<float>("goal_text")[kWidth - 1], number, 1e-6);
    CHECK(bench.data<float>("goal_text")[kWidth] == 0);
  }
  words = "pick the red block";
  CHECK(text->run(2) == Status::engine_failure);
  CHECK(!text->error().empty());
  words = "4";
  CHECK(text->run(2) == Status::ok);
  CHECK(bench.data<float>("goal_text")[0] == 4);
}

void refuses_another_element_type() {
  GraphSpec spec = text_spec();
  spec.inputs[0].dtype = DType::int64;
  CHECK_THROWS(BundleError, "inputs[0].dtype: expected int64 (manifest), got string (graph)",
               Bench(kOrt).load(text_graph(kWidth), spec));
}

void custom_operators() {
  const std::string file = TinyGraph()
                               .input("text", kOnnxString, {1})
                               .constant("ones", {1, kWidth}, {1, 1, 1, 1})
                               .custom("TextLength", "text", "length")
                               .node("Mul", {"ones", "length"}, "goal_text")
                               .output("goal_text", kOnnxFloat, {1, kWidth})
                               .file();
  unsetenv("KEYSTEP_ORT_EXTENSIONS");
  CHECK_THROWS(ProviderError, "which text.onnx needs, got no path; pip install onnxruntime-extensions",
               Bench(kOrt).load(file, text_spec(1)));
  CHECK_THROWS(ProviderError, "pip install onnxruntime-extensions",
               Bench({.threads = 1, .extensions_library = "/no/such/library.so"}).load(file, text_spec(1)));

  Bench bench({.threads = 1, .extensions_library = TINY_CUSTOM_OP});
  const auto text = bench.load(file, text_spec(1));
  for (const std::string& words : {std::string("five!"), std::string(), std::string("nul\0 inside", 11)}) {
    *bench.data<std::string>("text") = words;
    CHECK(text->run(1) == Status::ok);
    CHECK_NEAR(bench.data<float>("goal_text")[0], static_cast<double>(words.size()), 0);
  }
  setenv("KEYSTEP_ORT_EXTENSIONS", TINY_CUSTOM_OP, 1);
  CHECK(Bench(kOrt).load(file, text_spec(1)) != nullptr);
  const std::string unknown = replaced(file, "TextLength", "TextHeight");
  CHECK_THROWS(BundleError, "TextHeight", bench.load(unknown, text_spec(1)));
}

bool has_onnxruntime() {
  try {
    make_engine(kOrt);
    return true;
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

}  // namespace

int main() {
  rows_are_chosen_per_run(kStub, "");
  sessions_share_a_model(kStub, "");
  stub_reads_texts();
  stub_acts_and_sees_images();
  if (!has_onnxruntime()) return failures ? result() : kSkipped;
  rows_are_chosen_per_run(kOrt, plan_denoise_graph(kRows, kSubgoals, kDim, kWidth));
  sessions_share_a_model(kOrt, plan_denoise_graph(kRows, kSubgoals, kDim, kWidth));
  caches_are_set_back();
  refuses_wrong_rows();
  refuses_other_symbolic_axes();
  texts_reach_the_graph();
  refuses_another_element_type();
  custom_operators();
  return result();
}
