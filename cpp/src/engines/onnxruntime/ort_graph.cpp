#include "engines/onnxruntime/ort_graph.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "engines/engines.hpp"
#include "engines/onnxruntime/ort_check.hpp"
#include "engines/open_axis.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

/// A session with the tensors of one number of rows.
class Binding {
 public:
  Binding(const ort::Library& library, const OnnxVariant& variant, Tensors& tensors, bool copies_inputs)
      : library_(library),
        session_(variant.session),
        binding_(nullptr, api().ReleaseIoBinding),
        info_(nullptr, api().ReleaseMemoryInfo),
        rows_(variant.spec.rows) {
    ort::MemoryInfo* info = nullptr;
    check(api().CreateCpuMemoryInfo(ort::kDeviceAllocator, ort::kMemTypeDefault, &info));
    info_.reset(info);
    ort::IoBinding* binding = nullptr;
    check(api().CreateIoBinding(session_.get(), &binding));
    binding_.reset(binding);
    for (const TensorSpec& tensor : variant.spec.inputs) {
      if (keep_open(tensor, tensors, api().BindInput)) continue;
      ort::Value* const value = bind(tensor, tensors.at(tensor), api().BindInput);
      if (copies_inputs) copied_inputs_.emplace_back(tensor.name, value);
    }
    for (const TensorSpec& tensor : variant.spec.outputs) {
      if (keep_open(tensor, tensors, api().BindOutput)) continue;
      bind(tensor, tensors.at(tensor), api().BindOutput);
    }
    const Tensor* first = open_.empty() ? nullptr : tensors.find(variant.spec, "first");
    if (first != nullptr) first_ = static_cast<const std::int64_t*>(first->data);
  }

  int rows() const noexcept { return rows_; }
  bool is_open() const noexcept { return !open_.empty(); }

  /// Whether there is room for a run of so many tokens.
  bool fits(std::int64_t tokens) const noexcept {
    return std::ranges::all_of(open_, [&](const Open& open) {
      const std::int64_t extent = extent_of(open, tokens);
      return extent >= 1 && extent <= open.most;
    });
  }

  /// Before a run of so many tokens: views of the part of each open tensor that it has. nullptr: they are
  /// bound.
  ort::Status* bind_part(std::int64_t tokens) noexcept {
    for (Open& open : open_) {
      open.shape[1] = extent_of(open, tokens);
      const std::size_t bytes = open.row_bytes * static_cast<std::size_t>(open.shape[1]);
      ort::Value* value = nullptr;
      ort::Status* status = api().CreateTensorWithDataAsOrtValue(
          info_.get(), open.data, bytes, open.shape.data(), open.shape.size(), open.element_type, &value);
      if (status != nullptr) return status;
      open.value.reset(value);
      if (ort::Status* refused = open.bind(binding_.get(), open.name.c_str(), value)) return refused;
    }
    return nullptr;
  }

  /// nullptr: it ran.
  ort::Status* run(const ort::RunOptions& options) noexcept {
    for (const Text& text : texts_) {
      if (ort::Status* status = copy(text)) return status;
    }
    for (const auto& [name, value] : copied_inputs_) {
      if (ort::Status* status = api().BindInput(binding_.get(), name.c_str(), value)) return status;
    }
    if (!copied_inputs_.empty()) {
      if (ort::Status* status = api().SynchronizeBoundInputs(binding_.get())) return status;
    }
    return api().RunWithBinding(session_.get(), &options, binding_.get());
  }

 private:
  struct Text {
    const std::string* elements;
    std::size_t count;
    ort::Value* value;
  };

  using Bind = ort::Status* (*)(ort::IoBinding*, const char*, const ort::Value*) noexcept;

  /// A tensor that every run has a part of.
  struct Open {
    std::string name;
    OpenAxis axis;
    void* data;
    std::vector<std::int64_t> shape;
    std::int64_t most;
    std::size_t row_bytes;
    int element_type;
    Bind bind;
    ort::Handle<ort::Value> value;
  };

  const ort::Api& api() const noexcept { return library_.api(); }
  void check(ort::Status* status) const { library_.check<ProviderError>(status, "onnxruntime"); }

  std::int64_t extent_of(const Open& open, std::int64_t tokens) const noexcept {
    return open.axis == OpenAxis::logits && first_ != nullptr ? tokens - *first_ : tokens;
  }

  /// False: it is none.
  bool keep_open(const TensorSpec& spec, const Tensors& tensors, Bind call) {
    const OpenAxis axis = open_axis(spec);
    if (axis == OpenAxis::none) return false;
    const std::size_t row = spec.elements() / static_cast<std::size_t>(spec.shape.at(1));
    open_.push_back({spec.name,
                     axis,
                     tensors.at(spec).data,
                     spec.shape,
                     spec.shape[1],
                     row * size_of(spec.dtype),
                     ort::element_type(spec.dtype),
                     call,
                     {nullptr, api().ReleaseValue}});
    return true;
  }

  ort::Value* bind(const TensorSpec& spec, const Tensor& tensor, Bind call) {
    ort::Value* const value =
        spec.dtype == DType::string ? text_value(spec, tensor) : memory_value(spec, tensor);
    check(call(binding_.get(), spec.name.c_str(), value));
    return value;
  }

  /// A view of the tensor's memory, which is the host's for every provider. A provider with memory of its own
  /// copies outputs back inside the run, but inputs only when they are bound (`copies_inputs`): then each run
  /// binds them again. Keeping
  /// the condition tensors on the device would save those copies.
  ort::Value* memory_value(const TensorSpec& spec, const Tensor& tensor) {
    ort::Value* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(info_.get(), tensor.data,
                                               spec.elements() * size_of(spec.dtype), spec.shape.data(),
                                               spec.shape.size(), ort::element_type(spec.dtype), &value));
    values_.emplace_back(value, api().ReleaseValue);
    return value;
  }

  /// Strings live in the library's own memory: each run copies them there.
  ort::Value* text_value(const TensorSpec& spec, const Tensor& tensor) {
    ort::Allocator* allocator = nullptr;  // owned by the library
    check(api().GetAllocatorWithDefaultOptions(&allocator));
    ort::Value* value = nullptr;
    check(
        api().CreateTensorAsOrtValue(allocator, spec.shape.data(), spec.shape.size(), ort::kString, &value));
    values_.emplace_back(value, api().ReleaseValue);
    texts_.push_back({static_cast<const std::string*>(tensor.data), spec.elements(), value});
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

  const ort::Library& library_;
  std::shared_ptr<ort::Session> session_;
  ort::Handle<ort::IoBinding> binding_;
  ort::Handle<ort::MemoryInfo> info_;
  const int rows_;
  std::vector<Open> open_;
  const std::int64_t* first_ = nullptr;
  std::vector<ort::Handle<ort::Value>> values_;
  std::vector<Text> texts_;
  std::vector<std::pair<std::string, const ort::Value*>> copied_inputs_;
};

class OnnxGraph final : public Graph {
 public:
  OnnxGraph(std::shared_ptr<const ort::Library> library, const std::vector<OnnxVariant>& variants,
            Tensors& tensors, bool copies_inputs)
      : library_(std::move(library)),
        run_options_(nullptr, api().ReleaseRunOptions),
        cache_(variants.front().spec, tensors) {
    ort::RunOptions* run_options = nullptr;
    library_->check<ProviderError>(api().CreateRunOptions(&run_options), "onnxruntime");
    run_options_.reset(run_options);
    for (const OnnxVariant& variant : variants) {
      bindings_.push_back(std::make_unique<Binding>(*library_, variant, tensors, copies_inputs));
    }
  }

  Status run(int rows) noexcept override {
    const bool open = bindings_.front()->is_open();
    const auto bound =
        std::ranges::find(bindings_, open ? 1 : rows, [](const auto& binding) { return binding->rows(); });
    if (bound == bindings_.end() || (open && !(*bound)->fits(rows))) return refuse_rows(rows, error_);
    if (const Status status = cache_.begin(rows, error_); status != Status::ok) return status;
    if (ort::Status* status = open ? (*bound)->bind_part(rows) : nullptr) return fail(status);
    if (ort::Status* status = (*bound)->run(*run_options_)) return fail(status);
    cache_.end(rows);
    return Status::ok;
  }

  std::int64_t length() const noexcept override { return cache_.length(); }
  void set_length(std::int64_t length) noexcept override { cache_.set_length(length); }

  void terminate() noexcept override {
    const std::lock_guard lock(mutex_);
    terminated_ = true;
    release(api().RunOptionsSetTerminate(run_options_.get()));
  }

  const std::string& error() const noexcept override { return error_; }

 private:
  const ort::Api& api() const noexcept { return library_->api(); }
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

  const std::shared_ptr<const ort::Library> library_;
  ort::Handle<ort::RunOptions> run_options_;
  std::vector<std::unique_ptr<Binding>> bindings_;  // by rows
  Cache cache_;
  std::mutex mutex_;  // taken by terminate and by a run that failed, never by one that succeeds
  bool terminated_ = false;
  std::string error_;
};

class OnnxModel final : public Model {
 public:
  OnnxModel(std::shared_ptr<const ort::Library> library, std::vector<OnnxVariant> variants,
            bool copies_inputs)
      : library_(std::move(library)), variants_(std::move(variants)), copies_inputs_(copies_inputs) {}

  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return std::make_unique<OnnxGraph>(library_, variants_, tensors, copies_inputs_);
  }

 private:
  const std::shared_ptr<const ort::Library> library_;
  const std::vector<OnnxVariant> variants_;
  const bool copies_inputs_;
};

}  // namespace

std::shared_ptr<const Model> make_onnx_model(std::shared_ptr<const ort::Library> library,
                                             std::vector<OnnxVariant> variants, bool copies_inputs) {
  return std::make_shared<OnnxModel>(std::move(library), std::move(variants), copies_inputs);
}

}  // namespace keystep
