// The backends, one file each, behind make_engine.
#pragma once

#include <memory>

#include "keystep/engine.hpp"

namespace keystep {

inline constexpr const char* kScoreRole = "score";  ///< of the output of the graph `score`

std::unique_ptr<Engine> make_auto_engine(const EngineOptions& options);
std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options);
std::unique_ptr<Engine> make_stub_engine(const EngineOptions& options);

/// In the host's memory.
std::unique_ptr<Tensor> make_host_tensor(const TensorSpec& spec);
std::unique_ptr<Tensors> make_host_tensors();

/// Whether the tensor has one of the graph's rows for each sample.
bool has_rows(const GraphSpec& graph, const TensorSpec& tensor) noexcept;
/// The graph with so many rows.
GraphSpec with_rows(GraphSpec graph, int rows);
bool is_cache(const TensorSpec& tensor) noexcept;

/// What a graph with a cache remembers beside it; nothing of one without.
class Cache {
 public:
  /// Throws BundleError where the graph has a cache, and no input of the role `length`.
  Cache(const GraphSpec& graph, const Tensors& tensors);
  /// Before a run of so many rows. `engine_failure`: no room for them.
  Status begin(int rows, std::string& error) noexcept;
  void end(int rows) noexcept;  ///< after one that is ok
  std::int64_t length() const noexcept { return length_; }
  void set_length(std::int64_t length) noexcept;

 private:
  Tensor* input_ = nullptr;  ///< none: no cache
  std::int64_t length_ = 0, capacity_ = 0;
};

/// For a run with rows that its model was not loaded for.
Status refuse_rows(int rows, std::string& error) noexcept;

}  // namespace keystep
