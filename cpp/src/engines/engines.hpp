// The backends, one file each, behind make_engine.
#pragma once

#include <memory>

#include "keystep/engine.hpp"

namespace keystep {

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
/// For a run with rows that its model was not loaded for.
Status refuse_rows(int rows, std::string& error) noexcept;

}  // namespace keystep
