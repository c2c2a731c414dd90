// An engine turns the content of graph files into runnable graphs. One backend per file in src/engines/.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/status.hpp"

namespace keystep {

struct EngineOptions {
  /// auto: our own kernels for the U-Nets whose bundle has weights for them, ONNX Runtime for the rest;
  /// native: the same, or an error; onnxruntime: for everything; stub: no inference.
  std::string engine = "auto";
  std::string provider = "cpu";  ///< cpu | openvino | cuda | tensorrt
  /// Threads inside an operator or a U-Net, at most as many as there are cores: physical ones, of the
  /// affinity mask, of the CPU quota of the cgroup, whatever is least. 0: so many.
  int threads = 0;
  std::string optimization = "all";  ///< none | basic | extended | all
  std::string
      onnxruntime_library{};  ///< path of libonnxruntime.so; empty: KEYSTEP_ONNXRUNTIME, then the loader
  /// Path of onnxruntime-extensions' library, loaded when a graph needs its operators (the tokenisers of some
  /// text encoders); empty: KEYSTEP_ORT_EXTENSIONS. The one in its Python wheel loads inside Python only.
  std::string extensions_library{};
  std::map<std::string, std::string> provider_options{};  ///< handed to the provider as they are
  std::string precision{};  ///< of native U-Nets: fp32 | bf16 | int8; empty: as exported
  /// native: portable | avx2 | avx512 | avx512_bf16 | avx512_vnni; empty: the best that this CPU has.
  std::string isa{};
  bool pin_threads = false;  ///< native: each worker thread stays on one core
  int spin_us = 100;         ///< native: threads that wait spin so long, 0..100000, then they sleep
};

/// Which engine runs a graph file of the bundle, and why.
struct EngineChoice {
  std::string file, engine, reason;
};

/// Memory of one tensor, by name. `data` is 64-byte aligned and never moves; of a string tensor it points to
/// its `std::string` elements, which the engine copies before each run.
struct Buffer {
  void* data = nullptr;
  TensorSpec spec;
};
using Buffers = std::map<std::string, Buffer>;
/// Takes the memory of a graph's tensors. Asked once the graph's file is known to fit its spec: what a
/// manifest claims costs no memory before.
using BufferSource = std::function<const Buffers&()>;

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
  /// The same loaded graph, its weights shared, bound to `spec`: the same tensors with another extent on the
  /// file's symbolic axis, no larger than the buffer's. Do not run both at once. Throws as `load`.
  virtual std::unique_ptr<Graph> rebind(const GraphSpec& spec, const Buffers& buffers) const = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Names of the files that `load` will want the content of. Throws ProviderError if no file will do.
  virtual std::set<std::string> files(const GraphSpec& spec) = 0;
  /// Loads the graph from the content of its files, checks every tensor of `spec` against it (BundleError; in
  /// the file only the axis of guidance's two rows may be symbolic) and binds the buffers. Throws
  /// ProviderError when it needs operators of the package onnxruntime-extensions, and that is not there; when
  /// the provider fails where the CPU does not.
  virtual std::unique_ptr<Graph> load(const Files& files, const GraphSpec& spec,
                                      const BufferSource& memory) = 0;
  /// E.g. "onnxruntime 1.31.1, cpu, 2 threads".
  virtual std::string description() const = 0;
  /// Of the graphs loaded so far, in that order.
  virtual std::vector<EngineChoice> choices() const = 0;
};

/// Throws ProviderError naming the package that brings what is missing.
std::unique_ptr<Engine> make_engine(const EngineOptions& options);

}  // namespace keystep
