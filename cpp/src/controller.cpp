#include "keystep/controller.hpp"

#include <algorithm>
#include <cmath>

#include "bundle_check.hpp"
#include "keystep/status.hpp"
#include "normalizer.hpp"
#include "tensor_memory.hpp"

namespace keystep {
namespace {

/// Where one observation goes in the engine's memory; nullptr where the graph takes no such input.
struct ObservationInputs {
  const char* key;  ///< "observation" or "goal"
  float* state = nullptr;
  std::vector<float*> images;
};

SamplerSpec sampler_spec(const Bundle& bundle, int inference_steps) {
  SamplerSpec spec = bundle.sampler;
  if (inference_steps == 0 || inference_steps == spec.inference_steps) return spec;
  if (!bundle.graphs.contains("denoise")) {
    throw ArgumentError(expected(
        "inference_steps", std::to_string(spec.inference_steps) + " (unrolled in the bundle's one graph)",
        std::to_string(inference_steps)));
  }
  spec.inference_steps = inference_steps;
  validate(spec);
  return spec;
}

}  // namespace

struct Controller::Impl {
  Impl(const Bundle& bundle, Engine& engine, int inference_steps);

  std::unique_ptr<Graph> load(const Bundle& bundle, Engine& engine, const std::string& key);
  ObservationInputs inputs_of(const char* key, const Bundle& bundle) const;

  Status check(const Observation& observation, const ObservationInputs& inputs) noexcept;
  std::string find_fault(const Observation& observation, const ObservationInputs& inputs) const;
  void normalize(const Observation& observation, const ObservationInputs& inputs) const noexcept;
  bool noise_fits(std::span<const float> noise) noexcept;

  using Epoch = std::atomic<std::uint64_t>;
  Status run(Graph& graph, const Epoch& epoch, std::uint64_t at_epoch) noexcept;
  Status sample_steps(NoiseKey key, std::span<const float> noise, const Epoch& epoch,
                      std::uint64_t at_epoch) noexcept;
  Status sample_whole(NoiseKey key, std::span<const float> noise, const Epoch& epoch,
                      std::uint64_t at_epoch) noexcept;

  Sampler sampler;
  ObservationSpec spec;
  std::size_t chunk_size;  // horizon x action dim
  std::optional<VectorNormalizer> state_normalizer;
  std::vector<ImageNormalizer> image_normalizers;
  VectorNormalizer action_normalizer;

  TensorMemory memory;
  std::unique_ptr<Graph> encode, denoise, whole;  // denoise or whole
  ObservationInputs observation, goal;
  std::int64_t* task = nullptr;
  std::int64_t* timestep = nullptr;
  float* sample = nullptr;  // [branches, H, A], or the noise [1, H, A] of the one-graph form
  float* output = nullptr;  // model_output, or the actions
  std::size_t branches;
  std::vector<float> step_noise;
  std::string error;
};

Controller::Impl::Impl(const Bundle& bundle, Engine& engine, int inference_steps)
    : sampler(sampler_spec(bundle, inference_steps)),
      spec(bundle.observation),
      chunk_size(bundle.chunk.horizon * bundle.action.names.size()),
      action_normalizer(bundle.normalization.at("action"), bundle.action.names.size()),
      branches(static_cast<std::size_t>(keystep::branches(bundle))),
      step_noise(chunk_size) {
  if (!spec.state_names.empty()) {
    state_normalizer.emplace(bundle.normalization.at("observation.state"), spec.state_names.size());
  }
  for (const ImageSpec& image : spec.images) {
    image_normalizers.emplace_back(bundle.normalization.at("observation.images." + image.camera));
  }
  const bool steps = bundle.graphs.contains("denoise");
  const GraphSpec& encoder = bundle.graphs.at("encode");
  const GraphSpec& predictor = bundle.graphs.at(steps ? "denoise" : "sample");
  memory.add(encoder);
  memory.add(predictor);
  encode = load(bundle, engine, "encode");
  (steps ? denoise : whole) = load(bundle, engine, steps ? "denoise" : "sample");
  observation = inputs_of("observation", bundle);
  goal = inputs_of("goal", bundle);
  task = memory.by_role<std::int64_t>(encoder, "task");
  timestep = memory.by_role<std::int64_t>(predictor, "timestep");
  sample = memory.by_role<float>(predictor, steps ? "sample" : "noise");
  output = memory.by_role<float>(predictor, steps ? "model_output" : "actions");
}

std::unique_ptr<Graph> Controller::Impl::load(const Bundle& bundle, Engine& engine, const std::string& key) {
  const GraphSpec& graph = bundle.graphs.at(key);
  try {
    return engine.load(bundle.folder / graph.file, graph, memory.buffers());
  } catch (const BundleError& refused) {
    throw BundleError("graphs." + key + "." + refused.what());
  }
}

ObservationInputs Controller::Impl::inputs_of(const char* key, const Bundle& bundle) const {
  const GraphSpec& encoder = bundle.graphs.at("encode");
  const std::string prefix = std::string(key) + ".";
  ObservationInputs inputs{key, memory.by_role<float>(encoder, prefix + "state"), {}};
  for (const ImageSpec& image : spec.images) {
    inputs.images.push_back(memory.by_role<float>(encoder, prefix + "images." + image.camera));
  }
  return inputs;
}

// ---- observations

/// What is wrong, or "".
std::string Controller::Impl::find_fault(const Observation& seen, const ObservationInputs& inputs) const {
  const std::string key = inputs.key;
  if (inputs.state != nullptr && seen.state.size() != spec.state_names.size()) {
    return expected(key + ".state", std::to_string(spec.state_names.size()) + " values",
                    std::to_string(seen.state.size()));
  }
  for (std::size_t i = 0; inputs.state != nullptr && i < seen.state.size(); ++i) {
    if (std::isfinite(seen.state[i])) continue;
    return expected(key + ".state[" + std::to_string(i) + "] (" + spec.state_names[i] + ")", "a finite value",
                    std::to_string(seen.state[i]));
  }
  const bool wants_images =
      std::any_of(inputs.images.begin(), inputs.images.end(), [](auto* p) { return p; });
  if (wants_images && seen.images.size() != spec.images.size()) {
    return expected(key + ".images", std::to_string(spec.images.size()) + " images",
                    std::to_string(seen.images.size()));
  }
  for (std::size_t i = 0; i < inputs.images.size(); ++i) {
    if (inputs.images[i] == nullptr) continue;
    const ImageView& image = seen.images[i];
    const ImageSpec& wanted = spec.images[i];
    if (image.data != nullptr && image.height == wanted.height && image.width == wanted.width) continue;
    const auto size = [](int height, int width) {
      return std::to_string(height) + " x " + std::to_string(width) + " x 3 bytes";
    };
    return expected(key + ".images." + wanted.camera, size(wanted.height, wanted.width),
                    image.data == nullptr ? "no data" : size(image.height, image.width));
  }
  return "";
}

/// The tick's test, without a string: whatever it refuses, find_fault names.
Status Controller::Impl::check(const Observation& seen, const ObservationInputs& inputs) noexcept {
  bool good = inputs.state == nullptr || seen.state.size() == spec.state_names.size();
  if (inputs.state != nullptr) {
    for (const float value : seen.state) good &= std::isfinite(value);
  }
  for (std::size_t i = 0; i < inputs.images.size() && good; ++i) {
    if (inputs.images[i] == nullptr) continue;
    good = seen.images.size() == spec.images.size() && seen.images[i].data != nullptr &&
           seen.images[i].height == spec.images[i].height && seen.images[i].width == spec.images[i].width;
  }
  if (good) return Status::ok;
  try {
    error = find_fault(seen, inputs);
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return Status::bad_observation;
}

void Controller::Impl::normalize(const Observation& seen, const ObservationInputs& inputs) const noexcept {
  if (inputs.state != nullptr) state_normalizer->normalize(seen.state, inputs.state);
  for (std::size_t i = 0; i < inputs.images.size(); ++i) {
    if (inputs.images[i] != nullptr) image_normalizers[i].normalize(seen.images[i], inputs.images[i]);
  }
}

// ---- sampling

bool Controller::Impl::noise_fits(std::span<const float> noise) noexcept {
  std::size_t rows = 1;
  for (int k = 0; k < sampler.spec().inference_steps; ++k) rows += sampler.needs_noise(k);
  if (noise.empty() || noise.size() == rows * chunk_size) return true;
  try {
    error = expected("noise", std::to_string(rows * chunk_size) + " values", std::to_string(noise.size()));
  } catch (...) {
    error.clear();
  }
  return false;
}

Status Controller::Impl::run(Graph& graph, const Epoch& epoch, std::uint64_t at_epoch) noexcept {
  // A terminate may be left from an interrupt that came too late for the run it was meant for: run again.
  while (epoch.load() == at_epoch) {
    const Status status = graph.run();
    if (status == Status::interrupted) continue;
    if (status == Status::ok) return epoch.load() == at_epoch ? Status::ok : Status::interrupted;
    try {
      error = graph.error();
    } catch (...) {
      error.clear();
    }
    return status;
  }
  return Status::interrupted;
}

Status Controller::Impl::sample_steps(NoiseKey key, std::span<const float> noise, const Epoch& epoch,
                                      std::uint64_t at_epoch) noexcept {
  const std::span<float> latent(sample, chunk_size), predicted(output, chunk_size);
  const bool generated = noise.empty();
  const auto draw = [&](std::uint32_t step, std::span<float> out) {
    key.step = step;
    if (generated) return fill_normal(key, out);
    std::copy_n(noise.begin(), chunk_size, out.begin());
    noise = noise.subspan(chunk_size);
  };
  draw(0, latent);
  for (std::size_t k = 0; k < sampler.timesteps().size(); ++k) {
    *timestep = sampler.timesteps()[k];
    if (branches == 2) std::copy(latent.begin(), latent.end(), sample + chunk_size);
    if (const Status status = run(*denoise, epoch, at_epoch); status != Status::ok) return status;
    if (branches == 2) sampler.guide(predicted, {output + chunk_size, chunk_size});
    const int index = static_cast<int>(k);
    const bool noisy = sampler.needs_noise(index);
    if (noisy) draw(static_cast<std::uint32_t>(k + 1), step_noise);
    sampler.step(index, predicted, noisy ? std::span<const float>(step_noise) : std::span<const float>(),
                 latent);
  }
  return Status::ok;
}

Status Controller::Impl::sample_whole(NoiseKey key, std::span<const float> noise, const Epoch& epoch,
                                      std::uint64_t at_epoch) noexcept {
  if (noise.empty()) {
    key.step = 0;
    fill_normal(key, {sample, chunk_size});
  } else {
    std::copy_n(noise.begin(), chunk_size, sample);
  }
  return run(*whole, epoch, at_epoch);
}

// ---- the public face

Controller::Controller(const Bundle& bundle, Engine& engine, int inference_steps)
    : impl_(std::make_unique<Impl>(bundle, engine, inference_steps)) {}
Controller::~Controller() = default;

void Controller::set_task(int index) noexcept {
  if (impl_->task != nullptr) *impl_->task = index;
}

void Controller::set_goal(const Observation& goal) {
  if (impl_->check(goal, impl_->goal) != Status::ok) throw ArgumentError(impl_->error);
  impl_->normalize(goal, impl_->goal);
}

Status Controller::check(const Observation& observation) noexcept {
  return impl_->check(observation, impl_->observation);
}

Status Controller::observe(const Observation& observation) noexcept {
  const Status status = check(observation);
  if (status == Status::ok) impl_->normalize(observation, impl_->observation);
  return status;
}

Status Controller::sample(const NoiseKey& key, std::span<const float> noise,
                          const std::atomic<std::uint64_t>& epoch, std::uint64_t at_epoch, Histogram& encode,
                          Histogram& denoise, std::span<float> chunk) noexcept {
  Impl& self = *impl_;
  if (!self.noise_fits(noise)) return Status::bad_observation;
  {
    const StageTimer timer(encode);
    if (const Status status = self.run(*self.encode, epoch, at_epoch); status != Status::ok) return status;
  }
  const StageTimer timer(denoise);
  const Status status = self.denoise ? self.sample_steps(key, noise, epoch, at_epoch)
                                     : self.sample_whole(key, noise, epoch, at_epoch);
  if (status != Status::ok) return status;
  self.action_normalizer.unnormalize({self.denoise ? self.sample : self.output, self.chunk_size},
                                     chunk.data());
  return Status::ok;
}

void Controller::terminate() noexcept {
  for (Graph* graph : {impl_->encode.get(), impl_->denoise.get(), impl_->whole.get()}) {
    if (graph != nullptr) graph->terminate();
  }
}

const Sampler& Controller::sampler() const noexcept { return impl_->sampler; }
const std::string& Controller::error() const noexcept { return impl_->error; }

}  // namespace keystep
