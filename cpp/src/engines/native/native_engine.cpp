#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "bundle/bundle_check.hpp"
#include "engines/cores.hpp"
#include "engines/engines.hpp"
#include "engines/native/cpu.hpp"
#include "engines/native/native.hpp"
#include "engines/native/unet.hpp"
#include "support/readable.hpp"

namespace keystep::native {
namespace {

constexpr const char* kKind = "conditional_unet1d";

/// Threads share channels by whole groups of GroupNorm, and eight is what nearly all U-Nets have: unasked,
/// more threads would only wait.
constexpr int kMostUnasked = 8;

int team_size(int threads) {
  const int most = threads == 0 ? kMostUnasked : Team::kMostThreads;
  return std::min(resolved_threads(threads), most);
}

const TensorSpec* tensor_with(const std::vector<TensorSpec>& tensors, const char* role) {
  const auto found = std::ranges::find(tensors, role, &TensorSpec::role);
  return found == tensors.end() ? nullptr : &*found;
}

/// The input or output of a graph with this role and so many axes. Throws BundleError.
const TensorSpec& required(const GraphSpec& spec, bool input, const char* role, std::size_t axes) {
  const TensorSpec* tensor = tensor_with(input ? spec.inputs : spec.outputs, role);
  if (tensor == nullptr)
    refuse(input ? "inputs" : "outputs", std::string("a tensor with the role ") + role, "none");
  if (tensor->shape.size() != axes) {
    refuse(tensor->name + ".shape", std::to_string(axes) + " axes", to_string(tensor->shape));
  }
  return *tensor;
}

void check_shape(const TensorSpec& tensor, const std::vector<std::int64_t>& shape) {
  if (tensor.shape != shape)
    refuse(tensor.name + ".shape", to_string(shape) + " (unet)", to_string(tensor.shape));
}

/// What the two graphs have in common: they end by themselves, within milliseconds.
class NativeGraph : public Graph {
 public:
  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }

 protected:
  std::string error_;
};

class FilmGraph final : public NativeGraph {
 public:
  FilmGraph(std::shared_ptr<const FilmNetwork> network, std::shared_ptr<Team> team, const GraphSpec& spec,
            const Buffers& buffers)
      : network_(network), team_(team), film_(network, team, static_cast<int>(spec.outputs[0].shape[0])) {
    condition_ = static_cast<const float*>(buffer_of(spec.inputs[0], buffers).data);
    output_ = static_cast<float*>(buffer_of(spec.outputs[0], buffers).data);
  }

  Status run() noexcept override {
    film_.run(condition_, output_);
    return Status::ok;
  }

  std::unique_ptr<Graph> rebind(const GraphSpec& spec, const Buffers& buffers) const override {
    return std::make_unique<FilmGraph>(network_, team_, spec, buffers);
  }

 private:
  std::shared_ptr<const FilmNetwork> network_;
  std::shared_ptr<Team> team_;
  Film film_;
  const float* condition_;
  float* output_;
};

class StepGraph final : public NativeGraph {
 public:
  StepGraph(std::shared_ptr<const Network> network, std::shared_ptr<Team> team, const GraphSpec& spec,
            const Buffers& buffers)
      : network_(network), team_(team), step_(network, team, static_cast<int>(spec.outputs[0].shape[0])) {
    const auto data = [&](const std::vector<TensorSpec>& tensors, const char* role) {
      return buffer_of(*tensor_with(tensors, role), buffers).data;
    };
    sample_ = static_cast<const float*>(data(spec.inputs, "sample"));
    timestep_ = static_cast<const std::int64_t*>(data(spec.inputs, "timestep"));
    film_ = static_cast<const float*>(data(spec.inputs, "condition"));
    output_ = static_cast<float*>(data(spec.outputs, "model_output"));
  }

  Status run() noexcept override {
    if (*timestep_ < 0 || *timestep_ >= network_->shape().train_steps) return fail();
    step_.run(sample_, *timestep_, film_, output_);
    return Status::ok;
  }

  std::unique_ptr<Graph> rebind(const GraphSpec& spec, const Buffers& buffers) const override {
    return std::make_unique<StepGraph>(network_, team_, spec, buffers);
  }

 private:
  Status fail() noexcept {
    try {
      error_ = expected("timestep", "0.." + std::to_string(network_->shape().train_steps - 1),
                        std::to_string(*timestep_));
    } catch (...) {
      error_.clear();  // out of memory: the status still tells
    }
    return Status::engine_failure;
  }

  std::shared_ptr<const Network> network_;
  std::shared_ptr<Team> team_;
  DenoiseStep step_;
  const float* sample_;
  const std::int64_t* timestep_;
  const float* film_;
  float* output_;
};

}  // namespace

struct NativeEngine::Impl {
  explicit Impl(const EngineOptions& options)
      : precision(options.precision),
        isa(isa_named(options.isa)),
        threads(team_size(options.threads)),
        pin(options.pin_threads),
        spin_us(options.spin_us) {
    check_spin(spin_us);
    if (!precision.empty()) precision_named(precision);
  }

  const Kernels& kernels(const UnetSpec& unet) const {
    return kernels_for(isa, precision_named(precision.empty() ? unet.precision : precision));
  }

  std::shared_ptr<Team> team() {
    try {
      if (!started) started = std::make_shared<Team>(threads, pin, spin_us);
    } catch (const std::system_error& error) {
      throw ProviderError(expected("threads", std::to_string(threads), error.what()));
    }
    return started;
  }

  std::unique_ptr<Graph> load_film(const Safetensors& file, const GraphSpec& spec,
                                   const BufferSource& memory);
  std::unique_ptr<Graph> load_step(const Safetensors& file, const GraphSpec& spec,
                                   const BufferSource& memory);

  const std::string precision;
  const std::optional<Isa> isa;
  const int threads;
  const bool pin;
  const int spin_us;
  std::shared_ptr<Team> started;
};

std::unique_ptr<Graph> NativeEngine::Impl::load_film(const Safetensors& file, const GraphSpec& spec,
                                                     const BufferSource& memory) {
  const UnetSpec& unet = *spec.unet;
  const int width = film_width(unet.down_dims, unet.film_scale);
  const std::int64_t rows = required(spec, false, "condition", 2).shape[0];
  check_shape(required(spec, false, "condition", 2), {rows, width});
  check_shape(required(spec, true, "condition", 2), {rows, unet.condition});
  auto network = std::make_shared<const FilmNetwork>(file, unet.condition, width, kernels(unet), *team());
  return std::make_unique<FilmGraph>(std::move(network), team(), spec, memory());
}

std::unique_ptr<Graph> NativeEngine::Impl::load_step(const Safetensors& file, const GraphSpec& spec,
                                                     const BufferSource& memory) {
  const UnetSpec& unet = *spec.unet;
  if (spec.inputs.size() != 3)
    refuse("inputs", "sample, timestep, condition", std::to_string(spec.inputs.size()));
  const auto& sample = required(spec, true, "sample", 3).shape;
  const std::int64_t longest = std::int64_t{1} << (unet.down_dims.size() - 1);
  if (sample[1] % longest != 0) {
    refuse("sample.shape", "a horizon divisible by " + std::to_string(longest) + " (levels of the U-Net)",
           to_string(sample));
  }
  check_shape(required(spec, false, "model_output", 3), sample);
  check_shape(required(spec, true, "condition", 2), {sample[0], film_width(unet.down_dims, unet.film_scale)});
  check_shape(required(spec, true, "timestep", 1), {1});
  const NetworkShape shape{.actions = static_cast<int>(sample[2]),
                           .horizon = static_cast<int>(sample[1]),
                           .kernel_size = unet.kernel_size,
                           .groups = unet.groups,
                           .train_steps = unet.train_steps,
                           .down_dims = unet.down_dims,
                           .film_scale = unet.film_scale};
  auto network = std::make_shared<const Network>(file, shape, kernels(unet), *team());
  return std::make_unique<StepGraph>(std::move(network), team(), spec, memory());
}

// ---- the engine's face

void check_spin(int spin_us) {
  constexpr int kMostSpinUs = 100'000;
  if (spin_us >= 0 && spin_us <= kMostSpinUs) return;
  throw ArgumentError(
      expected("spin_us", "0.." + std::to_string(kMostSpinUs) + " microseconds", std::to_string(spin_us)));
}

NativeEngine::NativeEngine(const EngineOptions& options) : impl_(std::make_unique<Impl>(options)) {}
NativeEngine::~NativeEngine() = default;

std::string NativeEngine::refusal(const UnetSpec& unet) const {
  if (unet.kind != kKind) return expected("unet.kind", kKind, "'" + unet.kind + "'");
  if (unet.kernel_size % 2 == 0)
    return expected("unet.kernel_size", "an odd number", std::to_string(unet.kernel_size));
  for (const int width : unet.down_dims) {
    if (width % unet.groups == 0) continue;
    return expected("unet.down_dims", "multiples of groups " + std::to_string(unet.groups),
                    std::to_string(width));
  }
  const Precision stored = precision_named(unet.precision);
  const Precision wanted = impl_->precision.empty() ? stored : precision_named(impl_->precision);
  if (wanted < stored) {
    return expected("precision", unet.precision + " or lower (what the file holds)", impl_->precision);
  }
  return {};
}

std::unique_ptr<Graph> NativeEngine::load(const Files& files, const GraphSpec& spec,
                                          const BufferSource& memory) {
  const std::string& name = spec.unet->file;
  const Safetensors file(content_of(files, name), readable(name));
  return tensor_with(spec.outputs, "model_output") != nullptr ? impl_->load_step(file, spec, memory)
                                                              : impl_->load_film(file, spec, memory);
}

std::string NativeEngine::description(const UnetSpec& unet) const {
  const Kernels& kernels = impl_->kernels(unet);
  return std::string("native ") + kernels.name + ", " + name(kernels.precision) + " weights, " +
         std::to_string(impl_->threads) + (impl_->threads == 1 ? " thread" : " threads");
}

}  // namespace keystep::native
