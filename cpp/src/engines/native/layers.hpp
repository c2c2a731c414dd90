// The convolutions of a network: their channels, and the memory their packed weights lie in.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engines/native/arena.hpp"
#include "engines/native/layer.hpp"
#include "engines/native/team.hpp"

namespace keystep::native {

class Layers {
 public:
  /// Of a file that stays open until `pack`, for so many threads.
  Layers(const Safetensors& file, const Kernels& kernels, int threads);

  const Kernels& kernels() const noexcept { return *kernels_; }
  /// One object for equal arguments, see Channels.
  const Channels& channels(int count, int unit);
  /// Of the tensors `name`.weight [kernel_size, inputs, outputs] and `name`.bias. Throws BundleError.
  const Layer& add(const std::string& name, const LayerShape& shape, int kernel_size);
  /// Once all layers are there, in the order in which they run. Throws std::bad_alloc.
  void pack(Team& team);

  const std::deque<Layer>& all() const noexcept { return layers_; }

 private:
  const Safetensors* file_;  // until `pack`
  const Kernels* kernels_;
  const int threads_;
  std::map<std::pair<int, int>, Channels> channels_;
  std::deque<Layer> layers_;
  std::deque<Weights> weights_;  // of each layer, until `pack`
  std::vector<Arena> arenas_;    // by thread: its weights in the order in which it reads them
};

}  // namespace keystep::native
