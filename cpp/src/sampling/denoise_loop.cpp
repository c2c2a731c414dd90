#include "sampling/denoise_loop.hpp"

#include <algorithm>

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

DenoiseLoop::DenoiseLoop(SamplerSpec spec, const Tensors& tensors)
    : sampler_(std::move(spec)), tensors_(tensors), step_noise_(tensors.size) {}

bool DenoiseLoop::fits(std::span<const float> noise, std::string& error) const noexcept {
  std::size_t samples = 1;
  for (int k = 0; k < sampler_.spec().inference_steps; ++k) samples += sampler_.needs_noise(k);
  const std::size_t wanted = samples * tensors_.size;
  if (noise.empty() || noise.size() == wanted) return true;
  try {
    error = expected("noise", std::to_string(wanted) + " values", std::to_string(noise.size()));
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return false;
}

void DenoiseLoop::start(NoiseKey key, std::span<const float> noise) noexcept {
  const std::span<float> latent(tensors_.sample, tensors_.size);
  key.step = 0;
  if (noise.empty()) {
    fill_normal(key, latent);
  } else {
    std::copy_n(noise.begin(), latent.size(), latent.begin());
  }
}

Status DenoiseLoop::run(Graph& graph, const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                        std::string& error) noexcept {
  const std::size_t size = tensors_.size;
  const std::span<float> latent(tensors_.sample, size), predicted(tensors_.output, size);
  const bool generated = noise.empty();
  start(key, noise);
  for (std::size_t k = 0; k < sampler_.timesteps().size(); ++k) {
    *tensors_.timestep = sampler_.timesteps()[k];
    if (guided()) std::copy(latent.begin(), latent.end(), latent.data() + size);
    if (const Status status = run_graph(graph, epoch, error); status != Status::ok) return status;
    if (guided()) sampler_.guide(predicted, {predicted.data() + size, size});

    std::span<const float> added;
    if (sampler_.needs_noise(static_cast<int>(k))) {
      if (generated) {
        NoiseKey of_step = key;
        of_step.step = static_cast<std::uint32_t>(k + 1);
        fill_normal(of_step, step_noise_);
        added = step_noise_;
      } else {
        noise = noise.subspan(size);
        added = noise.first(size);
      }
    }
    sampler_.step(static_cast<int>(k), predicted, added, latent);
  }
  return Status::ok;
}

}  // namespace keystep
