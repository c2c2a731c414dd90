// Loading a graph of a bundle, and running it under an epoch.
#pragma once

#include <memory>
#include <string>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "loop/epoch.hpp"
#include "policy/tensor_memory.hpp"

namespace keystep {

/// What an engine does with `graphs.<key>`; a refusal names it.
template <class Work>
std::unique_ptr<Graph> naming_graph(const std::string& key, const Work& work) {
  try {
    return work();
  } catch (const BundleError& refused) {
    throw BundleError("graphs." + key + "." + refused.what());
  }
}

/// `graphs.<key>`, its tensors added to `memory`; nullptr if the bundle has none. Throws.
inline std::unique_ptr<Graph> load_graph(const Bundle& bundle, Engine& engine, const std::string& key,
                                         TensorMemory& memory) {
  if (!bundle.graphs.contains(key)) return nullptr;
  const GraphSpec& graph = bundle.graphs.at(key);
  const auto buffers = [&]() -> const Buffers& {
    memory.add(graph);
    return memory.buffers();
  };
  return naming_graph(key, [&] { return engine.load(bundle.files, graph, buffers); });
}

/// One run; `interrupted` if the epoch is over at its end. `error` is the engine's message of a failure.
inline Status run_graph(Graph& graph, const Epoch& epoch, std::string& error) noexcept {
  // A terminate may be left from an interrupt that came too late for the run it was meant for: run again.
  if (epoch.attention != nullptr) epoch.attention->begin_run();
  while (!epoch.over()) {
    const Status status = graph.run();
    if (status == Status::interrupted) continue;
    if (status == Status::ok) return epoch.over() ? Status::interrupted : Status::ok;
    try {
      error = graph.error();
    } catch (...) {
      error.clear();  // out of memory: the status still tells
    }
    return status;
  }
  return Status::interrupted;
}

}  // namespace keystep
