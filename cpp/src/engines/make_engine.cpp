#include "bundle_check.hpp"
#include "engines/engines.hpp"
#include "keystep/status.hpp"

namespace keystep {

std::unique_ptr<Engine> make_engine(const EngineOptions& options) {
  if (options.threads < 0) {
    throw ArgumentError(
        expected("threads", "0 (one per physical core) or more", std::to_string(options.threads)));
  }
  if (options.engine == "onnxruntime") return make_onnxruntime_engine(options);
  if (options.engine == "stub") return make_stub_engine(options);
  throw ArgumentError(expected("engine", "onnxruntime | stub", "'" + options.engine + "'"));
}

Buffer buffer_of(const TensorSpec& tensor, const Buffers& buffers) {
  const auto found = buffers.find(tensor.name);
  if (found == buffers.end()) throw BundleError(expected(tensor.name, "a buffer", "none of that name"));
  const auto& [data, memory] = found->second;
  if (memory.dtype != tensor.dtype || memory.elements() < tensor.elements()) {
    throw BundleError(expected(tensor.name,
                               "no more than " + to_string(memory.shape) + " of " + name(memory.dtype),
                               to_string(tensor.shape) + " of " + name(tensor.dtype)));
  }
  return {data, tensor};
}

}  // namespace keystep
