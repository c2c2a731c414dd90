// Running a graph under an epoch.
#pragma once

#include <string>

#include "keystep/engine.hpp"
#include "loop/epoch.hpp"

namespace keystep {

/// Of what fails without a message (a copy to or from an engine, memory to resize in): the status says it,
/// and no older message stays.
inline Status without_message(Status status, std::string& error) noexcept {
  if (status != Status::ok) error.clear();
  return status;
}

/// One run of so many rows; `interrupted` if the epoch is over at its end. `error` is the engine's message of
/// a failure.
inline Status run_graph(Graph& graph, int rows, const Epoch& epoch, std::string& error) noexcept {
  // A terminate may be left from an interrupt that came too late for the run it was meant for: run again.
  if (epoch.attention != nullptr) epoch.attention->begin_run();
  while (!epoch.over()) {
    const Status status = graph.run(rows);
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
