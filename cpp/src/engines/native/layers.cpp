#include "engines/native/layers.hpp"

namespace keystep::native {

Layers::Layers(const Safetensors& file, const Kernels& kernels, int threads)
    : file_(&file), kernels_(&kernels), threads_(threads) {}

const Channels& Layers::channels(int count, int unit) {
  const auto [found, added] = channels_.try_emplace({count, unit});
  if (added) found->second = Channels(count, unit, threads_, kernels_->lanes);
  return found->second;
}

const Layer& Layers::add(const std::string& name, const LayerShape& shape, int kernel_size) {
  int inputs = 0;
  for (const Channels* channels : shape.inputs) inputs += channels->count();
  const int outputs = shape.outputs->count();
  weights_.emplace_back(*file_, name + ".weight", std::vector<std::int64_t>{kernel_size, inputs, outputs},
                        *kernels_);
  return layers_.emplace_back(shape, read_floats(*file_, name + ".bias", {outputs}), *kernels_);
}

void Layers::pack(Team& team) {
  for (int thread = 0; thread < threads_; ++thread) {
    std::size_t bytes = 0;
    for (const Layer& layer : layers_) bytes += layer.bytes(thread);
    arenas_.emplace_back(bytes);
  }
  // Each thread writes its own part, so that the pages lie near the core that will read them.
  team.run([this](int thread) noexcept {
    std::byte* to = arenas_[static_cast<std::size_t>(thread)].data();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      layers_[i].pack(thread, weights_[i], to);
      to += layers_[i].bytes(thread);
    }
  });
  for (Layer& layer : layers_) layer.finish();
  weights_.clear();
  file_ = nullptr;
}

}  // namespace keystep::native
