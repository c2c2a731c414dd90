// The memory that graphs are bound to: one block per tensor name (64-byte aligned; an array of std::string
// for a string tensor), alive as long as this object.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "keystep/engine.hpp"

namespace keystep {

class TensorMemory {
 public:
  /// Zeroed memory (of a string tensor: empty strings) for every tensor of the graph that has none yet. A
  /// name met before is the same tensor: a condition, which encode writes and the other graph reads.
  void add(const GraphSpec& graph) {
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) {
        if (buffers_.contains(tensor.name)) continue;
        buffers_[tensor.name] = {tensor.dtype == DType::string ? strings(tensor) : block(tensor), tensor};
      }
    }
  }

  const Buffers& buffers() const noexcept { return buffers_; }

  /// The tensor of the graph with this role, nullptr if there is none.
  template <class T>
  T* by_role(const GraphSpec& graph, const std::string& role) const {
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) {
        if (tensor.role == role) return static_cast<T*>(buffers_.at(tensor.name).data);
      }
    }
    return nullptr;
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };

  void* block(const TensorSpec& tensor) {
    const std::size_t bytes = tensor.elements() * size_of(tensor.dtype);
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    blocks_.emplace_back(std::aligned_alloc(kAlignment, rounded));
    if (blocks_.back() == nullptr) throw std::bad_alloc();
    std::memset(blocks_.back().get(), 0, rounded);
    return blocks_.back().get();
  }

  void* strings(const TensorSpec& tensor) {
    strings_.push_back(std::make_unique<std::string[]>(tensor.elements()));
    return strings_.back().get();
  }

  std::vector<std::unique_ptr<void, Free>> blocks_;
  std::vector<std::unique_ptr<std::string[]>> strings_;
  Buffers buffers_;
};

}  // namespace keystep
