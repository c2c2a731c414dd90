// An engine turns the content of graph files into runnable graphs. One backend per file in src/engines/.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
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

/// One tensor in an engine's memory. The host writes and reads it at `data`; where the engine has memory of
/// its own, that is a copy on the host, and `upload` and `download` carry it over.
class Tensor {
 public:
  virtual ~Tensor() = default;
  /// Between the host's writing and a graph's reading. Allocates nothing.
  virtual Status upload() noexcept { return Status::ok; }
  /// Between a graph's writing and the host's reading. Allocates nothing.
  virtual Status download() noexcept { return Status::ok; }

  TensorSpec spec;
  /// 64-byte aligned, never moves; of a string tensor it points to its `std::string` elements.
  void* data = nullptr;
};

/// The tensors of one session, by name: what one graph writes another reads, without a copy.
class Tensors {
 public:
  virtual ~Tensors() = default;
  /// Zeroed memory (of a string tensor: empty strings) for every tensor of the graph that has none yet. An
  /// output of the role cache.<name> has that of the input.
  /// Throws std::bad_alloc, ProviderError.
  void add(const GraphSpec& graph);
  /// Throws BundleError where there is none of that name, of that type, as large as `spec`.
  Tensor& at(const TensorSpec& spec) const;
  /// The tensor of the graph with this role, nullptr if there is none.
  Tensor* find(const GraphSpec& graph, const std::string& role) const;
  /// Its memory on the host, likewise.
  template <class T>
  T* data(const GraphSpec& graph, const std::string& role) const {
    Tensor* tensor = find(graph, role);
    return tensor == nullptr ? nullptr : static_cast<T*>(tensor->data);
  }

 protected:
  virtual std::unique_ptr<Tensor> make(const TensorSpec& spec) = 0;

 private:
  std::map<std::string, std::shared_ptr<Tensor>> tensors_;
};

/// A graph bound to the tensors of a session, with the buffers that a run needs.
class Graph {
 public:
  virtual ~Graph() = default;
  /// Reads the inputs, writes the outputs: of the tensors that have a row for each sample (`GraphSpec::rows`)
  /// the first `rows`, which is one of those the model was loaded for. Allocates nothing in our own code.
  virtual Status run(int rows) noexcept = 0;
  /// Makes a `run` in flight on another thread return early with Status::interrupted; `run` afterwards works
  /// again.
  virtual void terminate() noexcept = 0;
  /// Message of the last failed run, or empty.
  virtual const std::string& error() const noexcept = 0;

  /// Of a graph with a cache (tensors of the role cache.<name>, each an input and an output in one memory):
  /// the positions in it. A run that is ok appends one for each row, after those there are, whose number it
  /// finds in its input of the role `length`. Without a cache 0.
  virtual std::int64_t length() const noexcept { return 0; }
  /// Forgets the positions from `length` on, which is 0..length(): the next run writes over them.
  virtual void set_length(std::int64_t) noexcept {}
};

/// A graph as it was loaded: its weights. Any thread; whatever it makes shares them.
class Model {
 public:
  virtual ~Model() = default;
  /// `tensors` come from the same engine, have all of the graph's, and outlive it.
  virtual std::unique_ptr<Graph> bind(Tensors& tensors) const = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Names of the files that `load` will want the content of. Throws ProviderError if no file will do.
  virtual std::set<std::string> files(const GraphSpec& spec) = 0;
  /// Loads the graph from the content of its files and checks every tensor of `spec` against it (BundleError;
  /// in the file only the axis of the rows is symbolic, and only where there are several). `rows`: what runs
  /// will ask for, 1..`spec.rows` each. Throws ProviderError when it needs operators of
  /// the package onnxruntime-extensions, and that is not there; when the provider fails where the CPU does
  /// not.
  virtual std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec,
                                            const std::vector<int>& rows) = 0;
  /// None yet: `Tensors::add` takes them, once the files are known to fit what a manifest claims.
  virtual std::unique_ptr<Tensors> tensors() const = 0;
  /// E.g. "onnxruntime 1.31.1, cpu, 2 threads".
  virtual std::string description() const = 0;
  /// Of the graphs loaded so far, in that order.
  virtual std::vector<EngineChoice> choices() const = 0;
};

/// Throws ProviderError naming the package that brings what is missing.
std::unique_ptr<Engine> make_engine(const EngineOptions& options);

}  // namespace keystep
