// ONNX Runtime over its C ABI. Inputs and outputs are bound once to the caller's memory; a run is one call.
#include <algorithm>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "bundle_check.hpp"
#include "engines/engines.hpp"
#include "engines/ort_library.hpp"
#include "engines/ort_providers.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

int element_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return ort::kFloat32;
    case DType::int64:
      return ort::kInt64;
    case DType::uint8:
      return ort::kUint8;
  }
  return 0;
}

std::string element_name(int type) {
  for (const DType dtype : {DType::float32, DType::int64, DType::uint8}) {
    if (element_type(dtype) == type) return name(dtype);
  }
  return "ONNX element type " + std::to_string(type);
}

/// Hyper-threads share the units that matrix products need: one thread per physical core is the fastest.
int physical_cores() {
  std::set<std::string> cores;
  const int logical = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int cpu = 0; cpu < logical; ++cpu) {
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(in, siblings)) return logical;
    cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

int optimization_level(const std::string& name) {
  if (name == "none") return ort::kOptimizeNone;
  if (name == "basic") return ort::kOptimizeBasic;
  if (name == "extended") return ort::kOptimizeExtended;
  if (name == "all") return ort::kOptimizeAll;
  throw ArgumentError(expected("optimization", "none | basic | extended | all", "'" + name + "'"));
}

// ---- what a graph file says of itself

struct GraphTensor {
  std::string name;
  int element_type = 0;
  std::vector<std::int64_t> shape;  ///< -1: not fixed
};

class GraphReader {
 public:
  GraphReader(const ort::Library& library, const ort::Session& session)
      : library_(library), session_(session) {
    check(library.api().GetAllocatorWithDefaultOptions(&allocator_));
  }

  std::vector<GraphTensor> tensors(bool inputs) const {
    const ort::Api& api = library_.api();
    std::size_t count = 0;
    check((inputs ? api.SessionGetInputCount : api.SessionGetOutputCount)(&session_, &count));
    std::vector<GraphTensor> all(count);
    for (std::size_t i = 0; i < count; ++i) {
      char* text = nullptr;
      check((inputs ? api.SessionGetInputName : api.SessionGetOutputName)(&session_, i, allocator_, &text));
      all[i].name = text;
      check(api.AllocatorFree(allocator_, text));
      ort::TypeInfo* type = nullptr;
      check((inputs ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(&session_, i, &type));
      read_type(ort::Handle<ort::TypeInfo>(type, api.ReleaseTypeInfo), all[i]);
    }
    return all;
  }

 private:
  void read_type(const ort::Handle<ort::TypeInfo>& type, GraphTensor& tensor) const {
    const ort::Api& api = library_.api();
    int kind = 0;
    check(api.GetOnnxTypeFromTypeInfo(type.get(), &kind));
    if (kind != ort::kTensor)
      throw BundleError(expected(tensor.name, "a tensor (manifest)", "another ONNX type"));
    const ort::TensorInfo* info = nullptr;  // part of `type`
    check(api.CastTypeInfoToTensorInfo(type.get(), &info));
    check(api.GetTensorElementType(info, &tensor.element_type));
    std::size_t rank = 0;
    check(api.GetDimensionsCount(info, &rank));
    tensor.shape.resize(rank);
    check(api.GetDimensions(info, tensor.shape.data(), rank));
  }
  void check(ort::Status* status) const { library_.check<BundleError>(status, "graph"); }

  const ort::Library& library_;
  const ort::Session& session_;
  ort::Allocator* allocator_ = nullptr;  // owned by the library
};

void check_tensors(const std::vector<TensorSpec>& manifest, const std::vector<GraphTensor>& graph,
                   const std::string& side) {
  for (std::size_t i = 0; i < manifest.size(); ++i) {
    const TensorSpec& spec = manifest[i];
    const std::string field = side + "[" + std::to_string(i) + "]";
    const auto same = std::find_if(graph.begin(), graph.end(),
                                   [&](const GraphTensor& tensor) { return tensor.name == spec.name; });
    if (same == graph.end()) {
      throw BundleError(
          expected(field + ".name", "'" + spec.name + "' (manifest)", "no such tensor (graph)"));
    }
    if (same->element_type != element_type(spec.dtype)) {
      throw BundleError(expected(field + ".dtype", std::string(name(spec.dtype)) + " (manifest)",
                                 element_name(same->element_type) + " (graph)"));
    }
    if (same->shape != spec.shape) {
      throw BundleError(expected(field + ".shape", to_string(spec.shape) + " (manifest)",
                                 to_string(same->shape) + " (graph)"));
    }
  }
  for (const GraphTensor& tensor : graph) {
    const bool known = std::any_of(manifest.begin(), manifest.end(),
                                   [&](const TensorSpec& spec) { return spec.name == tensor.name; });
    if (!known)
      throw BundleError(expected(side, "'" + tensor.name + "' (graph)", "no such tensor (manifest)"));
  }
}

// ---- the graph

class OnnxGraph final : public Graph {
 public:
  OnnxGraph(std::shared_ptr<const ort::Library> library, ort::Handle<ort::Session> session,
            bool copies_inputs)
      : copies_inputs_(copies_inputs),
        library_(std::move(library)),
        session_(std::move(session)),
        run_options_(nullptr, api().ReleaseRunOptions),
        binding_(nullptr, api().ReleaseIoBinding) {
    ort::RunOptions* run_options = nullptr;
    check(api().CreateRunOptions(&run_options));
    run_options_.reset(run_options);
    ort::IoBinding* binding = nullptr;
    check(api().CreateIoBinding(session_.get(), &binding));
    binding_.reset(binding);
  }

  /// The memory is the CPU's for every provider. A provider with memory of its own copies outputs back inside
  /// the run, but inputs only when they are bound (`copies_inputs`): then each run binds them again. Keeping
  /// the condition tensors on the device would save those copies.
  void bind(const Buffer& buffer, bool input) {
    const TensorSpec& spec = buffer.spec;
    ort::MemoryInfo* raw_info = nullptr;
    check(api().CreateCpuMemoryInfo(ort::kDeviceAllocator, ort::kMemTypeDefault, &raw_info));
    const ort::Handle<ort::MemoryInfo> info(raw_info, api().ReleaseMemoryInfo);
    ort::Value* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(info.get(), buffer.data, spec.elements() * size_of(spec.dtype),
                                               spec.shape.data(), spec.shape.size(), element_type(spec.dtype),
                                               &value));
    values_.emplace_back(value, api().ReleaseValue);
    check((input ? api().BindInput : api().BindOutput)(binding_.get(), spec.name.c_str(), value));
    if (input && copies_inputs_) copied_inputs_.emplace_back(spec.name, value);
  }

  Status run() noexcept override {
    for (const auto& [name, value] : copied_inputs_) {
      ort::Status* status = api().BindInput(binding_.get(), name.c_str(), value);
      if (status != nullptr) return fail(status);
    }
    if (!copied_inputs_.empty()) {
      ort::Status* status = api().SynchronizeBoundInputs(binding_.get());
      if (status != nullptr) return fail(status);
    }
    ort::Status* status = api().RunWithBinding(session_.get(), run_options_.get(), binding_.get());
    return status == nullptr ? Status::ok : fail(status);
  }

  void terminate() noexcept override {
    const std::lock_guard lock(mutex_);
    terminated_ = true;
    release(api().RunOptionsSetTerminate(run_options_.get()));
  }

  const std::string& error() const noexcept override { return error_; }

 private:
  const ort::Api& api() const noexcept { return library_->api(); }
  void check(ort::Status* status) const { library_->check<ProviderError>(status, "onnxruntime"); }
  void release(ort::Status* status) const noexcept {
    if (status != nullptr) api().ReleaseStatus(status);
  }

  Status fail(ort::Status* status) noexcept {
    const std::lock_guard lock(mutex_);
    const bool terminated = std::exchange(terminated_, false);
    try {
      error_ = terminated ? "" : api().GetErrorMessage(status);
    } catch (...) {
      error_.clear();  // out of memory: the status still tells
    }
    release(status);
    if (!terminated) return Status::engine_failure;
    release(api().RunOptionsUnsetTerminate(run_options_.get()));
    return Status::interrupted;
  }

  const bool copies_inputs_;
  std::shared_ptr<const ort::Library> library_;
  ort::Handle<ort::Session> session_;
  ort::Handle<ort::RunOptions> run_options_;
  ort::Handle<ort::IoBinding> binding_;
  std::vector<ort::Handle<ort::Value>> values_;
  std::vector<std::pair<std::string, const ort::Value*>> copied_inputs_;
  std::mutex mutex_;  // taken by terminate and by a run that failed, never by one that succeeds
  bool terminated_ = false;
  std::string error_;
};

// ---- the engine

class OnnxEngine final : public Engine {
 public:
  explicit OnnxEngine(const EngineOptions& options)
      : library_(ort::Library::open(options.onnxruntime_library)),
        provider_(options.provider),
        threads_(options.threads > 0 ? options.threads : physical_cores()),
        session_options_(nullptr, library_->api().ReleaseSessionOptions) {
    const ort::Api& api = library_->api();
    const auto check = [this](ort::Status* status) { library_->check<ProviderError>(status, "onnxruntime"); };
    ort::SessionOptions* raw = nullptr;
    check(api.CreateSessionOptions(&raw));
    session_options_.reset(raw);
    check(api.SetSessionExecutionMode(raw, ort::kSequential));
    check(api.SetIntraOpNumThreads(raw, threads_));
    check(api.SetInterOpNumThreads(raw, 1));
    check(api.SetSessionGraphOptimizationLevel(raw, optimization_level(options.optimization)));
    check(api.EnableMemPattern(raw));  // shapes are fixed: one block for all intermediate results
    add_spinning(options, *raw);
    ort::append_provider(*library_, options, threads_, *raw);
  }

  std::unique_ptr<Graph> load(const std::filesystem::path& file, const GraphSpec& spec,
                              const std::map<std::string, Buffer>& buffers) override {
    const ort::Api& api = library_->api();
    ort::Session* raw = nullptr;
    library_->check<BundleError>(
        api.CreateSession(&library_->env(), file.c_str(), session_options_.get(), &raw),
        "file: expected a graph that onnxruntime " + library_->version() + " loads, got " +
            file.filename().string());
    ort::Handle<ort::Session> session(raw, api.ReleaseSession);
    const GraphReader reader(*library_, *session);
    check_tensors(spec.inputs, reader.tensors(true), "inputs");
    check_tensors(spec.outputs, reader.tensors(false), "outputs");
    const bool has_own_memory = provider_ == "cuda" || provider_ == "tensorrt";
    auto graph = std::make_unique<OnnxGraph>(library_, std::move(session), has_own_memory);
    for (const TensorSpec& tensor : spec.inputs) graph->bind(buffers.at(tensor.name), true);
    for (const TensorSpec& tensor : spec.outputs) graph->bind(buffers.at(tensor.name), false);
    return graph;
  }

  std::string description() const override {
    return "onnxruntime " + library_->version() + ", " + provider_ + ", " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }

 private:
  /// Threads that spin while they wait save a wake-up on an idle machine and fight the rest of a busy one.
  /// ONNX Runtime's own 1 ms loses on both: 10 steps of a 16 M U-Net with 2 threads took 24 ms asleep, 33 ms
  /// with its default and 17 ms with 20 us; on a busy machine 73 M took 131, 256 and 130 ms. Before 1.31 the
  /// duration is not known, so there the threads sleep. `provider_options` override both.
  void add_spinning(const EngineOptions& options, ort::SessionOptions& session) const {
    constexpr const char* kAllow = "session.intra_op.allow_spinning";
    constexpr const char* kDuration = "session.intra_op.spin_duration_us";
    if (options.provider_options.contains(kAllow)) return;
    const bool timed = library_->minor_version() >= 31;
    const auto add = [&](const char* key, const char* value) {
      library_->check<ProviderError>(library_->api().AddSessionConfigEntry(&session, key, value),
                                     "onnxruntime");
    };
    add(kAllow, timed ? "1" : "0");
    if (timed && !options.provider_options.contains(kDuration)) add(kDuration, "20");
  }

  std::shared_ptr<const ort::Library> library_;
  std::string provider_;
  int threads_;
  ort::Handle<ort::SessionOptions> session_options_;
};

}  // namespace

std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options) {
  return std::make_unique<OnnxEngine>(options);
}

}  // namespace keystep
