#include "sampling/denoise_loop.hpp"

#include <algorithm>
#include <utility>

#include "keystep/sampler_fields.hpp"
#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
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

DenoiseLoop::DenoiseLoop(SamplerSpec spec, const GraphSpec& graph, const Tensors& tensors, std::size_t size,
                         int count)
    : sampler_(std::move(spec)),
      sample_(*tensors.find(graph, "sample")),
      output_(*tensors.find(graph, "model_output")),
      timestep_(*tensors.find(graph, "timestep")),
      size_(size),
      count_(count),
      step_noise_(size) {}

bool DenoiseLoop::fits(std::span<const float> noise, std::string& error) const noexcept {
  std::size_t samples = 1;
  for (int k = 0; k < sampler_.spec().inference_steps; ++k) samples += sampler_.needs_noise(k);
  const std::size_t wanted = samples * static_cast<std::size_t>(count_) * size_;
  if (noise.empty() || noise.size() == wanted) return true;
  try {
    error = expected("noise", std::to_string(wanted) + " values", std::to_string(noise.size()));
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return false;
}

/// Noise of many samples takes a while: where the epoch is over the rest of them is left as it is.
void DenoiseLoop::start(NoiseKey key, std::span<const float> noise, const Epoch& epoch) noexcept {
  for (int i = 0; i < count_ && !epoch.over(); ++i) {
    if (noise.empty()) {
      key.step = step_of_candidate(static_cast<std::uint32_t>(i), 0);
      fill_normal(key, row(sample_, i));
    } else {
      std::ranges::copy(noise.subspan(static_cast<std::size_t>(i) * size_, size_), row(sample_, i).begin());
    }
  }
}

/// The network's prediction for the samples as they are: guided, where each has two rows.
Status DenoiseLoop::predict(Graph& graph, std::int64_t timestep, const Epoch& epoch,
                            std::string& error) noexcept {
  *static_cast<std::int64_t*>(timestep_.data) = timestep;
  for (int i = 0; guided() && i < count_; ++i) {
    const std::span<float> latent = row(sample_, i);
    std::ranges::copy(latent, latent.data() + size_);
  }
  for (Tensor* input : {&sample_, &timestep_}) {
    if (const Status status = without_message(input->upload(), error); status != Status::ok) return status;
  }
  const int rows = count_ * static_cast<int>(branches());
  if (const Status status = run_graph(graph, rows, epoch, error); status != Status::ok) return status;
  if (const Status status = without_message(output_.download(), error); status != Status::ok) return status;
  for (int i = 0; guided() && i < count_; ++i) {
    const std::span<float> predicted = row(output_, i);
    sampler_.guide(predicted, {predicted.data() + size_, size_});
  }
  return Status::ok;
}

/// x_t -> x_{t-1} of every sample. What the step adds is of `key`, or the next of those that are given.
void DenoiseLoop::step(int k, const NoiseKey& key, bool generated, std::span<const float>& noise,
                       const Epoch& epoch, Merge* merge) noexcept {
  const bool adds = sampler_.needs_noise(k);
  if (adds && !generated) noise = noise.subspan(static_cast<std::size_t>(count_) * size_);
  for (int i = 0; i < count_ && !epoch.over(); ++i) {
    std::span<const float> added;
    if (adds && generated) {
      NoiseKey drawn = key;
      drawn.step = step_of_candidate(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(k) + 1);
      fill_normal(drawn, step_noise_);
      added = step_noise_;
    } else if (adds) {
      added = noise.subspan(static_cast<std::size_t>(i) * size_, size_);
    }
    sampler_.step(k, row(output_, i), added, row(sample_, i));
    if (merge != nullptr) merge->after(sampler_, k, added, row(sample_, i));
  }
}

Status DenoiseLoop::run(Graph& graph, const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                        std::string& error, Merge* merge) noexcept {
  const bool generated = noise.empty();
  start(key, noise, epoch);
  if (merge != nullptr) {
    if (const Status status = without_message(merge->begin(), error); status != Status::ok) return status;
  }
  for (std::size_t k = 0; k < sampler_.timesteps().size(); ++k) {
    const Span span(kDenoiseStepLabel, static_cast<std::int64_t>(k));
    if (merge != nullptr) merge->before(row(sample_, 0));
    if (const Status status = predict(graph, sampler_.timesteps()[k], epoch, error); status != Status::ok) {
      return status;
    }
    step(static_cast<int>(k), key, generated, noise, epoch, merge);
  }
  if (merge != nullptr) merge->end(row(sample_, 0));
  return epoch.over() ? Status::interrupted : Status::ok;
}

}  // namespace keystep
