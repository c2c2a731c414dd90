// What a graph's file says before ONNX Runtime sees it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "keystep/bundle.hpp"

namespace keystep {

struct OnnxFile {
  /// Bytes that initializers take of files beside the graph, by location.
  std::map<std::string, std::uint64_t> external;
  /// Of every input with a symbolic leading axis, the name of that axis.
  std::map<std::string, std::string> rows;
};

/// Walks through the ONNX protobuf. Throws BundleError: malformed, or it names files where nothing can be
/// given to ONNX Runtime in their place (external data outside the main graph's initializers, EPContext).
OnnxFile scan_onnx(const FileContent& content);

}  // namespace keystep
