#include "engines/onnxruntime/ort_graph.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "engines/engines.hpp"
#include "engines/onnxruntime/ort_check.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

class OnnxGraph final : public Graph {
 public:
  OnnxGraph(std::shared_ptr<const ort::Library> library, std::shared_ptr<ort::Session> session,
            bool copies_inputs, Reopen reopen)
      : copies_inputs_(copies_inputs),
        reopen_(std::move(reopen)),
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

  void bind(const Buffer& buffer, bool input) {
    ort::Value* const value = buffer.spec.dtype == DType::string ? text_value(buffer) : memory_value(buffer);
    check((input ? api().BindInput : api().BindOutput)(binding_.get(), buffer.spec.name.c_str(), value));
    if (input && copies_inputs_) copied_inputs_.emplace_back(buffer.spec.name, value);
  }

  Status run() noexcept override {
    for (const Text& text : texts_) {
      ort::Status* status = copy(text);
      if (status != nullptr) return fail(status);
    }
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

  std::unique_ptr<Graph> rebind(const GraphSpec& spec, const Buffers& buffers) const override {
    const auto session = reopen_ ? reopen_(spec) : session_;
    ort::check_graph(*library_, *session, spec, buffers);
    return make_onnx_graph(library_, session, copies_inputs_, {}, spec, buffers);
  }

 private:
  struct Text {
    const std::string* elements;
    std::size_t count;
    ort::Value* value;
  };

  const ort::Api& api() const noexcept { return library_->api(); }
  void check(ort::Status* status) const { library_->check<ProviderError>(status, "onnxruntime"); }
  void release(ort::Status* status) const noexcept {
    if (status != nullptr) api().ReleaseStatus(status);
  }

  /// A view of the caller's memory, which is the CPU's for every provider. A provider with memory of its own
  /// copies outputs back inside the run, but inputs only when they are bound (`copies_inputs`): then each run
  /// binds them again. Keeping
  /// the condition tensors on the device would save those copies.
  ort::Value* memory_value(const Buffer& buffer) {
    const TensorSpec& spec = buffer.spec;
    ort::MemoryInfo* raw_info = nullptr;
    check(api().CreateCpuMemoryInfo(ort::kDeviceAllocator, ort::kMemTypeDefault, &raw_info));
    const ort::Handle<ort::MemoryInfo> info(raw_info, api().ReleaseMemoryInfo);
    ort::Value* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(info.get(), buffer.data, spec.elements() * size_of(spec.dtype),
                                               spec.shape.data(), spec.shape.size(),
                                               ort::element_type(spec.dtype), &value));
    values_.emplace_back(value, api().ReleaseValue);
    return value;
  }

  /// Strings live in the library's own memory: each run copies them there.
  ort::Value* text_value(const Buffer& buffer) {
    const TensorSpec& spec = buffer.spec;
    ort::Allocator* allocator = nullptr;  // owned by the library
    check(api().GetAllocatorWithDefaultOptions(&allocator));
    ort::Value* value = nullptr;
    check(
        api().CreateTensorAsOrtValue(allocator, spec.shape.data(), spec.shape.size(), ort::kString, &value));
    values_.emplace_back(value, api().ReleaseValue);
    texts_.push_back({static_cast<const std::string*>(buffer.data), spec.elements(), value});
    return value;
  }

  ort::Status* copy(const Text& text) const noexcept {
    for (std::size_t i = 0; i < text.count; ++i) {
      const std::string& from = text.elements[i];
      char* to = nullptr;
      ort::Status* status = api().GetResizedStringTensorElementBuffer(text.value, i, from.size(), &to);
      if (status != nullptr) return status;
      std::copy(from.begin(), from.end(), to);
    }
    return nullptr;
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
  const Reopen reopen_;
  std::shared_ptr<const ort::Library> library_;
  std::shared_ptr<ort::Session> session_;
  ort::Handle<ort::RunOptions> run_options_;
  ort::Handle<ort::IoBinding> binding_;
  std::vector<ort::Handle<ort::Value>> values_;
  std::vector<Text> texts_;
  std::vector<std::pair<std::string, const ort::Value*>> copied_inputs_;
  std::mutex mutex_;  // taken by terminate and by a run that failed, never by one that succeeds
  bool terminated_ = false;
  std::string error_;
};

}  // namespace

std::unique_ptr<Graph> make_onnx_graph(std::shared_ptr<const ort::Library> library,
                                       std::shared_ptr<ort::Session> session, bool copies_inputs,
                                       Reopen reopen, const GraphSpec& spec, const Buffers& buffers) {
  auto graph =
      std::make_unique<OnnxGraph>(std::move(library), std::move(session), copies_inputs, std::move(reopen));
  for (const TensorSpec& tensor : spec.inputs) graph->bind(buffer_of(tensor, buffers), true);
  for (const TensorSpec& tensor : spec.outputs) graph->bind(buffer_of(tensor, buffers), false);
  return graph;
}

}  // namespace keystep
