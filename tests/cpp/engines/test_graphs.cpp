// Graphs of a planner straight through the engines: strings in, custom operators, the stub's closed forms,
// and what is refused. Without ONNX Runtime only the stub's part runs.
#include <algorithm>
#include <cstdlib>

#include "graph_bench.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void refuses_wrong_rows() {
  Bench bench(kOrt);
  GraphSpec larger = plan_spec(3);
  bench.load(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), plan_spec(2), {2, 1});
  CHECK_THROWS(BundleError, "plan.sample: expected no more than [2, 3, 2] of float32, got [3, 3, 2]",
               bench.load(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), larger, {3, 1}));
  CHECK_THROWS(BundleError,
               "inputs[0].shape: expected [2, 3, 2] with a symbolic first axis (manifest), got "
               "[2, 3, 2] (graph)",
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
  refused(plan_denoise_graph(kRows, kSubgoals, kDim, kWidth), plan_spec(2),  // runs with two rows alone
          "inputs[0].shape: expected [2, 3, 2] (manifest), got [-1, 3, 2] (graph)");
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

}  // namespace

int main() {
  stub_reads_texts();
  stub_acts_and_sees_images();
  if (!has_onnxruntime()) return failures ? result() : kSkipped;
  refuses_wrong_rows();
  refuses_other_symbolic_axes();
  texts_reach_the_graph();
  refuses_another_element_type();
  custom_operators();
  return result();
}
