// What a graph's file says before ONNX Runtime sees it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "keystep/bundle.hpp"

namespace keystep {

/// A graph's content with that of its external data, by location.
struct GraphContent {
  std::string name;  ///< of its file
  std::shared_ptr<const FileContent> graph;
  Files external;
};

/// What `spec` names. Throws BundleError where `files` has it not.
GraphContent content_for(const Files& files, const GraphSpec& spec);

struct OnnxFile {
  /// Bytes that initializers take of files beside the graph, by location.
  std::map<std::string, std::uint64_t> external;
  /// Of every input with a symbolic leading axis, the name of that axis.
  std::map<std::string, std::string> rows;
};

/// Walks through the ONNX protobuf. Throws BundleError: malformed; or it names other files than `external`
/// has, or files where nothing can be given to ONNX Runtime in their place (external data outside the main
/// graph's initializers, EPContext).
OnnxFile read_onnx(const GraphContent& content);

}  // namespace keystep
