// Providers with a device, on a pretended one: whose fault a failure is, what stays on the CPU, which axes
// are fixed. Skipped without ONNX Runtime.
#include <dlfcn.h>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/keystep.hpp"
#include "pretend_gpu.hpp"
#include "tiny_onnx.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kSubgoals = 3, kDim = 2, kWidth = 4;

EngineOptions on(const std::string& provider) {
  return {.engine = "onnxruntime", .provider = provider, .threads = 1, .onnxruntime_library = PRETEND_GPU};
}

PretendGpu& gpu() {
  static auto* state =
      reinterpret_cast<PretendGpu* (*)()>(dlsym(dlopen(PRETEND_GPU, RTLD_NOW | RTLD_LOCAL), "pretend_gpu"))();
  return *state;
}

TensorSpec floats(const std::string& name, std::vector<std::int64_t> shape, const std::string& role) {
  return {name, DType::float32, std::move(shape), role};
}
TensorSpec goal_text(std::int64_t rows) { return floats("goal_text", {rows, kWidth}, "condition"); }
GraphSpec plan_spec(int rows) {
  return {"plan_denoise.onnx",
          "",
          {floats("plan.sample", {rows, kSubgoals, kDim}, "sample"),
           {"plan.timestep", DType::int64, {1}, "timestep"},
           goal_text(rows)},
          {floats("plan.model_output", {rows, kSubgoals, kDim}, "model_output")},
          {},
          {},
          rows};
}

/// A device that fails is the provider's fault where the CPU runs the graph, and the graph's where it does
/// not.
void tells_whose_fault_it_is() {
  gpu().fails = true;
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  for (const auto& [provider, package] :
       {std::pair("cuda", "pip install onnxruntime-gpu"), {"tensorrt", "'tensorrt-cu13>=10,<11'"}}) {
    CHECK_THROWS(ProviderError,
                 std::string("provider: expected ") + provider +
                     " to run encode.onnx, as the CPU does, got CUDA failure 35",
                 Runtime(folder.path(), {.engine = on(provider)}));
    CHECK_THROWS(ProviderError, package, Runtime(folder.path(), {.engine = on(provider)}));
  }
  write_bundle(folder.path(), kManifest, TinyGraph().node("NoSuchOperator", {"a"}, "b").file(),
               denoise_graph());
  CHECK_THROWS(BundleError, "graphs.encode.file: expected a graph that onnxruntime 1.",
               Runtime(folder.path(), {.engine = on("cuda")}));
  gpu().fails = false;
}

void runs_on_the_device() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  const int before = gpu().device_sessions;
  Runtime device(folder.path(), {.engine = on("cuda")}), cpu(folder.path(), {.engine = on("cpu")});
  CHECK(gpu().device_sessions == before + 2);
  Action a = device.make_action(), b = cpu.make_action();
  device.reset({"lift", {}, 0, 0});
  cpu.reset({"lift", {}, 0, 0});
  const std::vector<float> state = {1.5f, 2.5f, 5.0f};
  for (int i = 0; i < 9; ++i) {
    CHECK(device.tick(seen(state), a) == Status::ok && cpu.tick(seen(state), b) == Status::ok);
    CHECK(a.values == b.values);
  }
}

void text_stays_on_the_cpu() {
  gpu().fails = true;
  const Files files = {{"text.onnx", std::make_shared<FileContent>(content_with(text_graph(kWidth)))}};
  const GraphSpec spec = {"text.onnx", "", {{"text", DType::string, {1}, "text"}}, {goal_text(2)}, {}, {}, 2};
  const auto engine = make_engine(on("cuda"));
  const auto tensors = engine->tensors();
  const auto graph = bound(*engine, files, spec, *tensors);
  *static_cast<std::string*>(tensors->at(spec.inputs[0]).data) = "2.5";
  CHECK(graph->run(2) == Status::ok);
  CHECK(static_cast<float*>(tensors->at(goal_text(2)).data)[0] == 2.5f);
  gpu().fails = false;
}

/// Each number of rows has a session of its own, compiled when it is loaded.
void rows_are_fixed() {
  const std::string file = plan_denoise_graph(kRows, kSubgoals, kDim, kWidth);
  const Files files = {{"plan_denoise.onnx", std::make_shared<FileContent>(content_with(file))}};
  const auto engine = make_engine(on("tensorrt"));
  const int before = gpu().device_sessions;
  gpu().axes.clear();
  const GraphSpec spec = plan_spec(2);
  const auto model = engine->load(files, spec, {2, 1});
  CHECK(gpu().axes == std::vector<std::string>({"rows=2", "rows=1"}));
  const auto tensors = engine->tensors();
  tensors->add(spec);
  const auto graph = model->bind(*tensors), other = model->bind(*tensors);
  CHECK(gpu().device_sessions == before + 2);  // however many sessions of ours
  auto* output = static_cast<float*>(tensors->at(spec.outputs[0]).data);
  for (int i = 0; i < 2 * kWidth; ++i) {
    static_cast<float*>(tensors->at(goal_text(2)).data)[i] = i < kWidth ? 2.0f : -1.0f;
  }
  CHECK(graph->run(2) == Status::ok);
  CHECK_NEAR(output[0], 2, 1e-6);
  CHECK_NEAR(output[kSubgoals * kDim], -1, 1e-6);
  for (Graph* bound_to : {graph.get(), other.get()}) {
    output[0] = 0;
    CHECK(bound_to->run(1) == Status::ok);
    CHECK_NEAR(output[0], 2, 1e-6);
  }
  // Other axes are no rows, and stay refused.
  CHECK_THROWS(BundleError, "inputs[0].shape: expected [1, 3, 2] (manifest), got [-1, 3, 2] (graph)",
               engine->load(files, plan_spec(1), {1}));
}

bool has_onnxruntime() {
  try {
    make_engine({.engine = "onnxruntime"});
    return true;
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

}  // namespace

int main() {
  if (!has_onnxruntime()) return kSkipped;
  tells_whose_fault_it_is();
  runs_on_the_device();
  text_stays_on_the_cpu();
  rows_are_fixed();
  return result();
}
