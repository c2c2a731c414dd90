// An engine turns graph files into runnable graphs. One backend per file in src/engines/.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/status.hpp"

namespace keystep {

struct EngineOptions {
  std::string engine = "onnxruntime";  ///< onnxruntime | stub
  std::string provider = "cpu";        ///< cpu | openvino | cuda | tensorrt
  int threads = 0;                     ///< intra-op threads; 0: one per physical core
  std::string optimization = "all";    ///< none | basic | extended | all
  std::string
      onnxruntime_library{};  ///< path of libonnxruntime.so; empty: KEYSTEP_ONNXRUNTIME, then the loader
  std::map<std::string, std::string> provider_options{};  ///< handed to the provider as they are
};

/// A graph with its inputs and outputs bound once to memory that outlives it.
class Graph {
 public:
  virtual ~Graph() = default;
  /// Reads the bound inputs, writes the bound outputs. Allocates nothing in our own code.
  virtual Status run() noexcept = 0;
  /// Makes a `run` in flight on another thread return early with Status::interrupted; `run` afterwards works
  /// again.
  virtual void terminate() noexcept = 0;
  /// Message of the last failed run, or empty.
  virtual const std::string& error() const noexcept = 0;
};

/// Memory of one tensor, by name; `data` is 64-byte aligned and never moves.
struct Buffer {
  void* data = nullptr;
  TensorSpec spec;
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Loads `file`, checks every tensor of `spec` against it (BundleError) and binds `buffers[name]`.
  virtual std::unique_ptr<Graph> load(const std::filesystem::path& file, const GraphSpec& spec,
                                      const std::map<std::string, Buffer>& buffers) = 0;
  /// E.g. "onnxruntime 1.31.1, cpu, 2 threads".
  virtual std::string description() const = 0;
};

/// Throws ProviderError naming the package that brings what is missing.
std::unique_ptr<Engine> make_engine(const EngineOptions& options);

}  // namespace keystep
