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

}  // namespace keystep
