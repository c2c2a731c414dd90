// Which engine runs which graph, and why. Without ONNX Runtime only the options are tested.
#include <sched.h>

#include <limits>
#include <thread>

#include "engines/cores.hpp"
#include "keystep/keystep.hpp"
#include "native_policy.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void refuses_wrong_options() {
  for (const char* engine : {"auto", "native", "onnxruntime", "stub"}) {
    CHECK_THROWS(ArgumentError, "precision: expected fp32 | bf16 | int8, got 'fp16'",
                 make_engine({.engine = engine, .precision = "fp16"}));
    CHECK_THROWS(ArgumentError,
                 "isa: expected portable | avx2 | avx512 | avx512_bf16 | avx512_vnni, got 'sse2'",
                 make_engine({.engine = engine, .isa = "sse2"}));
    for (const int spin_us : {-1, 100'001}) {
      CHECK_THROWS(ArgumentError, "spin_us: expected 0..100000 microseconds, got ",
                   make_engine({.engine = engine, .spin_us = spin_us}));
    }
  }
  for (const char* engine : {"onnxruntime", "stub"}) {
    const std::string none = std::string(": expected none (engine ") + engine + "), got ";
    CHECK_THROWS(ArgumentError, "precision" + none + "'int8'",
                 make_engine({.engine = engine, .precision = "int8"}));
    CHECK_THROWS(ArgumentError, "isa" + none + "'portable'",
                 make_engine({.engine = engine, .isa = "portable"}));
  }
  const char* const message = "provider: expected cpu (engine native, its precision and isa), got 'cuda'";
  CHECK_THROWS(ArgumentError, message, make_engine({.engine = "native", .provider = "cuda"}));
  CHECK_THROWS(ArgumentError, message, make_engine({.provider = "cuda", .precision = "fp32"}));
  CHECK_THROWS(ArgumentError, message, make_engine({.provider = "cuda", .isa = "portable"}));
  CHECK_THROWS(ArgumentError, "engine: expected auto | native | onnxruntime | stub, got 'auto | native'",
               make_engine({.engine = "auto | native"}));
}

/// A file of a pretended /proc or /sys.
void put(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  write_file(file, text + "\n");
}

std::optional<double> quota_with(const std::vector<std::pair<std::string, std::string>>& files) {
  const TemporaryFolder root;
  for (const auto& [file, text] : files) put(root.path() / file, text);
  return cpu_quota(root.path());
}

void reads_cpu_quotas() {
  const std::string groups = "proc/self/cgroup", v2 = "sys/fs/cgroup/", v1 = "sys/fs/cgroup/cpu,cpuacct/";
  CHECK(!quota_with({}));
  CHECK(!quota_with({{groups, "0::/"}}));
  CHECK(!quota_with({{groups, "0::/a"}, {v2 + "a/cpu.max", "max 100000"}}));
  CHECK(quota_with({{groups, "0::/"}, {v2 + "cpu.max", "150000 100000"}}) == 1.5);
  // The strictest of a group and its ancestors.
  CHECK(quota_with(
            {{groups, "0::/a/b"}, {v2 + "a/cpu.max", "200000 100000"}, {v2 + "a/b/cpu.max", "max 100000"}}) ==
        2);
  CHECK(quota_with({{groups, "0::/a/b"},
                    {v2 + "a/cpu.max", "400000 100000"},
                    {v2 + "a/b/cpu.max", "50000 100000"}}) == 0.5);
  // v1; -1: none. In a container the group may be the host's path, and the mount the container's own group.
  const std::string mixed = "9:name=systemd:/x\n4:cpuset:/x\n2:cpu,cpuacct:/docker/0123\n0::/";
  CHECK(
      !quota_with({{groups, mixed}, {v1 + "cpu.cfs_quota_us", "-1"}, {v1 + "cpu.cfs_period_us", "100000"}}));
  CHECK(quota_with(
            {{groups, mixed}, {v1 + "cpu.cfs_quota_us", "300000"}, {v1 + "cpu.cfs_period_us", "100000"}}) ==
        3);
  CHECK(quota_with({{groups, mixed},
                    {v1 + "docker/0123/cpu.cfs_quota_us", "100000"},
                    {v1 + "docker/0123/cpu.cfs_period_us", "50000"},
                    {v2 + "unified/cpu.max", "100000 100000"}}) == 1);
  CHECK(!quota_with({{groups, "4:cpuset:/x"}, {"sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "1"}}));
  CHECK(!quota_with({{groups, "0::/"}, {v2 + "cpu.max", "garbage"}}));
}

/// Every engine has the same rule for threads, and says the same.
void one_rule_for_threads() {
  const int cores = usable_cores();
  CHECK(cores >= 1 && cores <= static_cast<int>(std::thread::hardware_concurrency()));
  CHECK(resolved_threads(0) == cores && resolved_threads(1) == 1 && resolved_threads(cores) == cores);
  const std::string message = "threads: expected 0 (one per core) .. " + std::to_string(cores);
  for (const char* engine : {"auto", "native", "onnxruntime", "stub"}) {
    for (const int threads : {-1, cores + 1, 400, 5000, std::numeric_limits<int>::max()}) {
      CHECK_THROWS(ArgumentError, message, make_engine({.engine = engine, .threads = threads}));
    }
  }
  cpu_set_t before, one;
  CHECK(sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(usable_cores() == 1);
  CHECK_THROWS(ArgumentError, "threads: expected 0 (one per core) .. 1 ",
               make_engine({.engine = "stub", .threads = 2}));
  try {
    CHECK(make_engine({.engine = "onnxruntime"})->description().ends_with(", 1 thread"));
  } catch (const ProviderError&) {  // no library here
  }
  CHECK(sched_setaffinity(0, sizeof before, &before) == 0);
}

/// The U-Net's `film`, whose spec `change` may edit, loaded by an engine.
template <class Change>
std::unique_ptr<Engine> loaded(const EngineOptions& options, const Change& change) {
  const UnetFolder folder(kUnetShape, random_weights(kUnetShape));
  write_file(folder.path() / "film.onnx", film_file());
  UnetSpec unet = *folder.spec;
  unet.errors["fp32"] = {1.5e-6, 1e-7};
  change(unet);
  GraphSpec film = film_graph(kUnetShape, std::make_shared<UnetSpec>(unet));
  auto engine = make_engine(options);
  const auto tensors = engine->tensors();
  CHECK(bound(*engine, files_in(folder.path()), film, *tensors)->run(film.rows) == Status::ok);
  const bool native = engine->choices()[0].engine == "native", stub = options.engine == "stub";
  const std::string file = native ? "unet.safetensors" : "film.onnx";
  CHECK(engine->files(film) == (stub ? std::set<std::string>() : std::set{file}));
  return engine;
}
const auto as_it_is = [](UnetSpec&) {};
const auto unmeasured = [](UnetSpec& unet) { unet.errors.clear(); };
const auto unknown = [](UnetSpec& unet) { unet.kind = "transformer"; };

void chosen(const Engine& engine, const std::string& name, const std::string& reason) {
  CHECK(engine.choices().size() == 1);
  const EngineChoice choice = engine.choices()[0];
  CHECK(choice.file == "film.onnx" && choice.engine == name);
  if (choice.reason.find(reason) == std::string::npos) fail(__FILE__, __LINE__, choice.reason);
  CHECK(engine.description().starts_with(name == "native" ? "native " : "onnxruntime 1."));
  CHECK(engine.description().find("onnxruntime 1.") != std::string::npos);
}

void runs_what_is_known_to_be_right() {
  const EngineOptions one = {.threads = 1};
  chosen(*loaded(one, as_it_is), "native", "unet.safetensors, fp32, measured within 1.5e-06 of torch");
  chosen(*loaded(one, unmeasured), "onnxruntime", "unet.errors.fp32: expected a measured error, got none");
  chosen(*loaded(one, unknown), "onnxruntime", "kind: expected ");
  chosen(*loaded({.engine = "onnxruntime", .threads = 1}, as_it_is), "onnxruntime", "engine: onnxruntime");
  const auto stub = loaded({.engine = "stub"}, as_it_is);
  CHECK(stub->choices().size() == 1 && stub->choices()[0].engine == "stub");
}

void runs_what_is_asked_for() {
  const EngineOptions native = {.engine = "native", .threads = 1};
  chosen(*loaded(native, unmeasured), "native", "unet.safetensors, fp32, never measured against torch");
  for (const char* precision : {"fp32", "bf16", "int8"}) {
    const auto engine = loaded({.threads = 1, .precision = precision}, unmeasured);
    chosen(*engine, "native", precision + std::string(", never measured against torch"));
    CHECK(engine->description().find(precision) != std::string::npos);
  }
  const std::string message =
      "engine: expected a U-Net that native runs, got unet.safetensors: unet.kind: expected ";
  CHECK_THROWS(ProviderError, message, loaded(native, unknown));
  CHECK_THROWS(ProviderError, message, loaded({.threads = 1, .precision = "fp32"}, unknown));
  CHECK_THROWS(ProviderError, "a U-Net that native runs",
               loaded({.threads = 1, .precision = "fp32"}, [](UnetSpec& unet) { unet.precision = "bf16"; }));
}

void a_policy_of_both_engines() {
  const TemporaryFolder folder;
  write_native_policy(folder.path());
  Runtime runtime(folder.path(), {.engine = {.threads = 1}});
  const auto choices = runtime.engine_choices();
  CHECK(choices.size() == 3);
  CHECK(choices[0].file == "encode.onnx" && choices[0].engine == "onnxruntime");
  CHECK(choices[0].reason == "no U-Net with weights of its own");
  CHECK(choices[1].file == "film.onnx" && choices[1].engine == "native");
  CHECK(choices[2].file == "denoise.onnx" && choices[2].engine == "native");
  runtime.reset({"push", {}, 7, 1});
  Action action = runtime.make_action();
  for (int i = 0; i < 7; ++i) CHECK(runtime.tick(seen(kState), action) == Status::ok);
  runtime.close();
  CHECK(runtime.engine_choices().size() == 3);
}

void native_needs_a_unet() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest, encode_graph(), denoise_graph());
  CHECK_THROWS(ProviderError,
               "engine: expected auto | onnxruntime (the bundle has no U-Net with weights of its own), got "
               "'native'",
               Runtime(folder.path(), {.engine = {.engine = "native"}}));
  CHECK_THROWS(ProviderError,
               "precision: expected none (the bundle has no U-Net with weights of its own), got 'int8'",
               Runtime(folder.path(), {.engine = {.precision = "int8"}}));
}

bool has_onnxruntime() {
  try {
    make_engine({});
    return true;
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

}  // namespace

int main() {
  refuses_wrong_options();
  reads_cpu_quotas();
  one_rule_for_threads();
  if (!has_onnxruntime()) return failures ? result() : kSkipped;
  runs_what_is_known_to_be_right();
  runs_what_is_asked_for();
  a_policy_of_both_engines();
  native_needs_a_unet();
  return result();
}
