// One line of code as an automaton over bytes, made of the functions of an API. docs/constrained.md has the
// rules.
#pragma once

#include <cstdint>
#include <vector>

#include "keystep/code_api.hpp"

namespace keystep {

/// Nodes and the bytes that lead from one to the next. A step that makes a string or a list longer than it
/// must be leads to the node itself or a later one, every other step to an earlier one.
struct CodeAutomaton {
  using NodeId = std::int32_t;
  struct Edge {
    std::uint8_t first, last;  ///< bytes
    NodeId next;
    auto operator<=>(const Edge&) const = default;
  };
  struct Node {
    std::uint32_t first_edge = 0;
    std::uint16_t edges = 0;
    std::uint16_t most = 0;  ///< characters of a string that may lead here; 0: this is not inside of one
  };
  static constexpr NodeId kNone = -1;
  static constexpr NodeId kEnd = 0;  ///< the line is complete

  NodeId next(NodeId node, std::uint8_t byte) const noexcept {
    const Node& from = nodes[static_cast<std::size_t>(node)];
    const Edge* edge = edges.data() + from.first_edge;
    for (std::uint16_t i = 0; i < from.edges; ++i, ++edge) {
      if (byte >= edge->first && byte <= edge->last) return edge->next;
    }
    return kNone;
  }

  std::vector<Node> nodes;
  std::vector<Edge> edges;
  NodeId line = kNone;   ///< begins one
  NodeId mark = kNone;   ///< begins one that is commented out
  NodeId reply = kNone;  ///< begins either
};

/// Throws BundleError: too much is possible.
CodeAutomaton make_automaton(const CodeApi& api, int grid);

}  // namespace keystep
