#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bundle/bundle_check.hpp"
#include "engines/engines.hpp"
#include "engines/open_axis.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::size_t kAlignment = 64;

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

class HostTensor final : public Tensor {
 public:
  explicit HostTensor(const TensorSpec& of) {
    spec = of;
    if (spec.dtype == DType::string) {
      texts_ = std::make_unique<std::string[]>(spec.elements());
      data = texts_.get();
      return;
    }
    const std::size_t bytes = spec.elements() * size_of(spec.dtype);
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    block_.reset(std::aligned_alloc(kAlignment, rounded));
    if (block_ == nullptr) throw std::bad_alloc();
    std::memset(block_.get(), 0, rounded);
    data = block_.get();
  }

 private:
  std::unique_ptr<void, Free> block_;
  std::unique_ptr<std::string[]> texts_;
};

class HostTensors final : public Tensors {
 protected:
  std::unique_ptr<Tensor> make(const TensorSpec& spec) override { return make_host_tensor(spec); }
};

}  // namespace

void Tensors::add(const GraphSpec& graph) {
  for (const TensorSpec& tensor : graph.inputs) {
    if (!tensors_.contains(tensor.name)) tensors_.emplace(tensor.name, make(tensor));
  }
  for (const TensorSpec& tensor : graph.outputs) {
    if (tensors_.contains(tensor.name)) continue;
    const auto past = std::ranges::find(graph.inputs, tensor.role, &TensorSpec::role);
    const bool cached = is_cache(tensor) && past != graph.inputs.end();
    tensors_.emplace(tensor.name, cached ? tensors_.at(past->name) : make(tensor));
  }
}

Tensor& Tensors::at(const TensorSpec& wanted) const {
  const auto found = tensors_.find(wanted.name);
  if (found == tensors_.end()) throw BundleError(expected(wanted.name, "a tensor", "none of that name"));
  const TensorSpec& has = found->second->spec;
  if (has.dtype != wanted.dtype || has.elements() < wanted.elements()) {
    throw BundleError(expected(wanted.name, "no more than " + to_string(has.shape) + " of " + name(has.dtype),
                               to_string(wanted.shape) + " of " + name(wanted.dtype)));
  }
  return *found->second;
}

Tensor* Tensors::find(const GraphSpec& graph, const std::string& role) const {
  for (const auto* list : {&graph.inputs, &graph.outputs}) {
    const auto found = std::ranges::find(*list, role, &TensorSpec::role);
    if (found != list->end()) return &at(*found);
  }
  return nullptr;
}

std::unique_ptr<Tensor> make_host_tensor(const TensorSpec& spec) {
  return std::make_unique<HostTensor>(spec);
}

std::unique_ptr<Tensors> make_host_tensors() { return std::make_unique<HostTensors>(); }

namespace {

/// A graph that scores sees one text, whatever the number of plans.
bool scores(const GraphSpec& graph) noexcept {
  return std::ranges::find(graph.outputs, kScoreRole, &TensorSpec::role) != graph.outputs.end();
}

bool is_batched(const GraphSpec& graph, const std::string& role) noexcept {
  return role == "sample" || role == "prefix_mask" || role == "model_output" || role == kScoreRole ||
         (role == "condition" && !scores(graph));
}

}  // namespace

bool has_rows(const GraphSpec& graph, const TensorSpec& tensor) noexcept {
  const bool several = graph.rows > 1 || graph.any_rows;
  return several && is_batched(graph, tensor.role) && !tensor.shape.empty() && tensor.shape[0] == graph.rows;
}

GraphSpec with_rows(GraphSpec graph, int rows) {
  for (auto* list : {&graph.inputs, &graph.outputs}) {
    for (TensorSpec& tensor : *list) {
      if (has_rows(graph, tensor)) tensor.shape[0] = rows;
    }
  }
  graph.rows = rows;
  return graph;
}

bool is_cache(const TensorSpec& tensor) noexcept { return tensor.role.starts_with("cache."); }

OpenAxis open_axis(const TensorSpec& tensor) noexcept {
  if (tensor.role == "tokens" || tensor.role == "vectors") return OpenAxis::tokens;
  return tensor.role == "logits" ? OpenAxis::logits : OpenAxis::none;
}

bool is_open(const GraphSpec& graph) noexcept {
  const auto open = [](const TensorSpec& tensor) { return open_axis(tensor) != OpenAxis::none; };
  return std::ranges::any_of(graph.inputs, open) || std::ranges::any_of(graph.outputs, open);
}

Cache::Cache(const GraphSpec& graph, const Tensors& tensors) {
  const auto cached = std::ranges::find_if(graph.inputs, is_cache);
  if (cached == graph.inputs.end()) return;
  input_ = tensors.find(graph, "length");
  if (input_ == nullptr) throw BundleError(expected("inputs", "a tensor with the role length", "none"));
  capacity_ = cached->shape.at(cached->shape.size() - 2);  // values of a position lie together
}

Status Cache::begin(int rows, std::string& error) noexcept {
  if (input_ == nullptr) return Status::ok;
  *static_cast<std::int64_t*>(input_->data) = length_;
  if (length_ + rows <= capacity_) return input_->upload();
  try {
    error = expected("cache", "room for " + std::to_string(rows) + " positions",
                     std::to_string(length_) + " of " + std::to_string(capacity_) + " taken");
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return Status::engine_failure;
}

void Cache::end(int rows) noexcept {
  if (input_ != nullptr) length_ += rows;
}

void Cache::set_length(std::int64_t length) noexcept {
  length_ = std::clamp<std::int64_t>(length, 0, length_);
}

Status refuse_rows(int rows, std::string& error) noexcept {
  try {
    error = expected("rows", "a number that the graph was loaded for", std::to_string(rows));
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return Status::engine_failure;
}

}  // namespace keystep
