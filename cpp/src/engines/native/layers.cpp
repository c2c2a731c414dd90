#include "engines/native/layers.hpp"

namespace keystep::native {

namespace {

class PackJob final : public Team::Job {
 public:
  PackJob(std::deque<Layer>& layers, const std::deque<Weights>& weights,
          const std::vector<Arena>& arenas) noexcept
      : layers_(layers), weights_(weights), arenas_(arenas) {}

  void walk(Team::Member& member) noexcept override {
    member.share([this](int part) {
      std::byte* to = arenas_[static_cast<std::size_t>(part)].data();
      for (std::size_t i = 0; i < layers_.size(); ++i) {
        layers_[i].pack(part, weights_[i], to);
        to += layers_[i].bytes(part);
      }
    });
  }

 private:
  std::deque<Layer>& layers_;
  const std::deque<Weights>& weights_;
  const std::vector<Arena>& arenas_;
};

}  // namespace

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
  // Shared among threads, so that the pages lie near the cores that will read them.
  PackJob job(layers_, weights_, arenas_);
  team.run(job);
  team.settle();
  for (Layer& layer : layers_) layer.finish();
  weights_.clear();
  file_ = nullptr;
}

}  // namespace keystep::native
