#include "sampling/denoise_loop.hpp"

#include <algorithm>
#include <utility>

#include "keystep/sampler_fields.hpp"
#include "keystep/status.hpp"
#include "policy/run_graph.hpp"

namespace keystep {

SamplerSpec choose_sampler(SamplerSpec spec, const std::string& kind, int steps, const std::string& prefix) {
  std::string known;  // the kinds that take what the network predicts
  bool found = kind.empty();
  for (const SamplerKind& other : kSamplerKinds) {
    if (std::ranges::find(other.predictions, spec.prediction) == other.predictions.end()) continue;
    known += (known.empty() ? "" : " | ") + std::string(other.name);
    found = found || kind == other.name;
  }
  if (!found) throw ArgumentError(expected(prefix + "sampler", known, "'" + kind + "'"));
  if (steps < 0 || steps > spec.train_steps) {
    throw ArgumentError(expected(prefix.empty() ? "inference_steps" : prefix + "steps",
                                 "0 (the manifest's) or 1.." + std::to_string(spec.train_steps),
                                 std::to_string(steps)));
  }
  if (!kind.empty()) spec.kind = kind;
  if (steps != 0) spec.inference_steps = steps;
  validate(spec);
  return spec;
}

DenoiseLoop::DenoiseLoop(SamplerSpec spec, const GraphSpec& graph, const Tensors& tensors, std::size_t size)
    : sampler_(std::move(spec)),
      sample_(*tensors.find(graph, "sample")),
      output_(*tensors.find(graph, "model_output")),
      timestep_(*tensors.find(graph, "timestep")),
      size_(size),
      step_noise_(size) {}

bool DenoiseLoop::fits(std::span<const float> noise, std::string& error) const noexcept {
  std::size_t samples = 1;
  for (int k = 0; k < sampler_.spec().inference_steps; ++k) samples += sampler_.needs_noise(k);
  const std::size_t wanted = samples * size_;
  if (noise.empty() || noise.size() == wanted) return true;
  try {
    error = expected("noise", std::to_string(wanted) + " values", std::to_string(noise.size()));
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return false;
}

void DenoiseLoop::start(NoiseKey key, std::span<const float> noise) noexcept {
  key.step = 0;
  if (noise.empty()) {
    fill_normal(key, latent());
  } else {
    std::ranges::copy(noise.first(size_), latent().begin());
  }
}

/// The network's prediction for the sample as it is: of both rows, guided, if there are two.
Status DenoiseLoop::predict(Graph& graph, std::int64_t timestep, const Epoch& epoch,
                            std::string& error) noexcept {
  *static_cast<std::int64_t*>(timestep_.data) = timestep;
  if (guided()) std::ranges::copy(latent(), latent().data() + size_);
  for (Tensor* input : {&sample_, &timestep_}) {
    if (const Status status = without_message(input->upload(), error); status != Status::ok) return status;
  }
  if (const Status status = run_graph(graph, guided() ? 2 : 1, epoch, error); status != Status::ok) {
    return status;
  }
  if (const Status status = without_message(output_.download(), error); status != Status::ok) return status;
  auto* predicted = static_cast<float*>(output_.data);
  if (guided()) sampler_.guide({predicted, size_}, {predicted + size_, size_});
  return Status::ok;
}

/// What step `k` adds, empty where it adds nothing: of `key`, or the next of those that are given.
std::span<const float> DenoiseLoop::added_noise(std::size_t step, NoiseKey key, bool generated,
                                                std::span<const float>& noise) noexcept {
  if (!sampler_.needs_noise(static_cast<int>(step))) return {};
  if (!generated) {
    noise = noise.subspan(size_);
    return noise.first(size_);
  }
  key.step = static_cast<std::uint32_t>(step + 1);
  fill_normal(key, step_noise_);
  return step_noise_;
}

Status DenoiseLoop::run(Graph& graph, const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                        std::string& error) noexcept {
  const bool generated = noise.empty();
  start(key, noise);
  for (std::size_t k = 0; k < sampler_.timesteps().size(); ++k) {
    if (const Status status = predict(graph, sampler_.timesteps()[k], epoch, error); status != Status::ok) {
      return status;
    }
    const std::span<const float> predicted(static_cast<const float*>(output_.data), size_);
    sampler_.step(static_cast<int>(k), predicted, added_noise(k, key, generated, noise), latent());
  }
  return Status::ok;
}

}  // namespace keystep
