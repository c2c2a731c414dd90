// ONNX Runtime over its C ABI gives what the stub's closed forms give, refuses what it should, and can be
// interrupted. KEYSTEP_ONNXRUNTIME names the library; without one the ONNX Runtime part is skipped.
#include <atomic>
#include <cstdlib>
#include <thread>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/keystep.hpp"
#include "policy/controller.hpp"
#include "tiny_onnx.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

const std::vector<float> kState = {1.5f, 2.5f, 5.0f};

EngineOptions onnxruntime() { return {.threads = 1}; }

void refuses_wrong_options() {
  CHECK_THROWS(ArgumentError, "engine: expected auto | native | onnxruntime | stub, got 'tvm'",
               make_engine({.engine = "tvm"}));
  CHECK_THROWS(ProviderError, "provider: expected cpu (the stub engine)",
               make_engine({.engine = "stub", .provider = "cuda"}));
  CHECK_THROWS(ProviderError, "pip install onnxruntime",
               make_engine({.onnxruntime_library = "/no/such/libort.so"}));
  CHECK_THROWS(ProviderError, "expected an ONNX Runtime library, got one without OrtGetApiBase",
               make_engine({.onnxruntime_library = "libm.so.6"}));
}

void refuses_what_the_library_lacks() {
  CHECK_THROWS(ArgumentError, "provider: expected cpu | openvino | cuda | tensorrt",
               make_engine({.provider = "npu"}));
  CHECK_THROWS(ArgumentError, "optimization: expected", make_engine({.optimization = "most"}));
  CHECK_THROWS(ArgumentError, "provider_options: expected none but session.* for cpu, got 'device_id'",
               make_engine({.provider_options = {{"device_id", "0"}}}));
  for (const auto& [provider, package] :
       std::map<std::string, std::string>{{"openvino", "pip install onnxruntime-openvino"},
                                          {"cuda", "pip install onnxruntime-gpu"},
                                          {"tensorrt", "libnvinfer"}}) {
    try {
      make_engine({.provider = provider});  // a library that has the provider and its own libraries
    } catch (const ProviderError& error) {
      CHECK(std::string(error.what()).find(package) != std::string::npos);
    }
  }
}

void agrees_with_the_stub(const std::string& provider) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  Runtime real(folder.path(), {.engine = {.provider = provider, .threads = 1}});
  Runtime stub(folder.path(), {.engine = {.engine = "stub"}});
  CHECK(real.engine_description().starts_with("onnxruntime 1."));
  CHECK(real.engine_description().ends_with(", " + provider + ", 1 thread"));
  Action a = real.make_action(), b = stub.make_action();
  for (const char* task : {"lift", "push"}) {
    real.reset({task, {}, 3, 1});
    stub.reset({task, {}, 3, 1});
    for (int i = 0; i < 7; ++i) {
      CHECK(real.tick(seen(kState), a) == Status::ok && stub.tick(seen(kState), b) == Status::ok);
      for (std::size_t d = 0; d < a.values.size(); ++d) CHECK_NEAR(a.values[d], b.values[d], 1e-5);
    }
  }
}

/// A provider with memory of its own sees what the loop writes before every run, not only before the first.
void agrees_with_the_stub_on_a_gpu() {
  try {
    agrees_with_the_stub("cuda");
  } catch (const ProviderError& error) {
    std::printf("cuda skipped: %s\n", error.what());
  }
}

void refused(const std::string& encode, const std::string& denoise, const std::string& message,
             const std::string& manifest = kManifest) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), manifest, encode, denoise);
  CHECK_THROWS(BundleError, message, Runtime(folder.path(), {.engine = onnxruntime()}));
}

void refuses_graphs_that_disagree() {
  refused(encode_graph(), denoise_graph(8),
          "graphs.denoise.inputs[0].shape: expected [1, 4, 2] (manifest), got [1, 8, 2] (graph)");
  refused(encode_graph(), denoise_graph(4, kOnnxFloat),
          "graphs.denoise.inputs[1].dtype: expected int64 (manifest), got float32 (graph)");
  refused(encode_graph(), denoise_graph(4, kOnnxInt64, "scale"),
          "graphs.denoise.inputs[2].name: expected 'film' (manifest), got no such tensor (graph)");
  refused(encode_graph(), denoise_graph(),
          "graphs.encode.inputs: expected 'task' (graph), got no such tensor (manifest)",
          replaced(kManifest, R"("role": "observation.state"},
                 {"name": "task", "dtype": "int64", "shape": [1], "role": "task"}])",
                   R"("role": "observation.state"}])"));
  refused(denoise_graph(), denoise_graph(), "graphs.encode.inputs[0].name: expected 'state'");
  refused(encode_graph(), "not a graph", "graphs.denoise.file: expected a graph that onnxruntime");
  refused(encode_graph().substr(0, 100), denoise_graph(),
          "graphs.encode.file: expected a graph that onnxruntime");
}

/// A terminate that finds no run in flight ends the next one only; then the graph works again.
void terminates() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  const Policy policy(folder.path(), {.engine = onnxruntime()});
  const auto tensors = policy.tensors();
  Controller controller(policy, *tensors);
  Histogram encode, denoise;
  std::vector<float> chunk(8), again(8);
  const std::atomic<std::uint64_t> epoch = 4;
  CHECK(controller.observe(seen(kState), false) == Status::ok);
  CHECK(controller.sample({1, 2, 3, 0}, {}, {epoch, 4}, encode, denoise, chunk) == Status::ok);
  controller.terminate();
  CHECK(controller.sample({1, 2, 3, 0}, {}, {epoch, 4}, encode, denoise, again) == Status::ok);
  CHECK(chunk == again);
  CHECK(controller.sample({1, 2, 3, 0}, {}, {epoch, 3}, encode, denoise, chunk) == Status::interrupted);
}

/// Interrupts at any moment give ok or interrupted, never a failure, and the loop goes on.
void survives_a_storm_of_interrupts() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  Runtime runtime(folder.path(), {.engine = onnxruntime()});
  runtime.reset({"lift", {}, 0, 0});
  Action action = runtime.make_action();
  std::atomic<bool> done = false;
  std::thread storm([&] {
    while (!done) runtime.interrupt();
  });
  for (int i = 0; i < 2000; ++i) {
    const Status status = runtime.tick(seen(kState), action);
    CHECK(status == Status::ok || status == Status::interrupted);
  }
  done = true;
  storm.join();
  CHECK(runtime.tick(seen(kState), action) == Status::ok);
}

bool has_onnxruntime() {
  try {
    make_engine(onnxruntime());
    return true;
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

}  // namespace

int main() {
  refuses_wrong_options();
  if (!has_onnxruntime()) return failures ? result() : kSkipped;
  refuses_what_the_library_lacks();
  agrees_with_the_stub("cpu");
  agrees_with_the_stub_on_a_gpu();
  refuses_graphs_that_disagree();
  terminates();
  survives_a_storm_of_interrupts();
  return result();
}
