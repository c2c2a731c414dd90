#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

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

/// What the two graphs have in common: they end by themselves, within milliseconds. `Kernel` has the buffers
/// of a run, for one number of rows.
template <class Kernel>
class NativeGraph : public Graph {
 public:
  template <class Network>
  NativeGraph(const std::shared_ptr<const Network>& network, const std::shared_ptr<Team>& team,
              const std::vector<int>& rows) {
    for (const int count : rows) kernels_.emplace_back(count, std::make_unique<Kernel>(network, team, count));
  }

  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }

 protected:
  /// nullptr: it was not loaded for so many rows.
  Kernel* kernel(int rows) noexcept {
    for (const auto& [count, kernel] : kernels_) {
      if (count == rows) return kernel.get();
    }
    return nullptr;
  }

  std::string error_;

 private:
  std::vector<std::pair<int, std::unique_ptr<Kernel>>> kernels_;
};

class FilmGraph final : public NativeGraph<Film> {
 public:
  FilmGraph(const std::shared_ptr<const FilmNetwork>& network, const std::shared_ptr<Team>& team,
            const GraphSpec& spec, const std::vector<int>& rows, Tensors& tensors)
      : NativeGraph(network, team, rows),
        condition_(static_cast<const float*>(tensors.at(spec.inputs[0]).data)),
        output_(static_cast<float*>(tensors.at(spec.outputs[0]).data)) {}

  Status run(int rows) noexcept override {
    Film* film = kernel(rows);
    if (film == nullptr) return refuse_rows(rows, error_);
    film->run(condition_, output_);
    return Status::ok;
  }

 private:
  const float* const condition_;
  float* const output_;
};

class StepGraph final : public NativeGraph<DenoiseStep> {
 public:
  StepGraph(const std::shared_ptr<const Network>& network, const std::shared_ptr<Team>& team,
            const GraphSpec& spec, const std::vector<int>& rows, Tensors& tensors)
      : NativeGraph(network, team, rows),
        train_steps_(network->shape().train_steps),
        sample_(tensors.data<const float>(spec, "sample")),
        mask_(tensors.data<const float>(spec, "prefix_mask")),
        timestep_(tensors.data<const std::int64_t>(spec, "timestep")),
        film_(static_cast<const float*>(tensors.at(*tensor_with(spec.inputs, "condition")).data)),
        output_(tensors.data<float>(spec, "model_output")) {}

  Status run(int rows) noexcept override {
    DenoiseStep* step = kernel(rows);
    if (step == nullptr) return refuse_rows(rows, error_);
    if (*timestep_ < 0 || *timestep_ >= train_steps_) return refuse_timestep();
    step->run(sample_, mask_, *timestep_, film_, output_);
    return Status::ok;
  }

 private:
  Status refuse_timestep() noexcept {
    try {
      error_ = expected("timestep", "0.." + std::to_string(train_steps_ - 1), std::to_string(*timestep_));
    } catch (...) {
      error_.clear();  // out of memory: the status still tells
    }
    return Status::engine_failure;
  }

  const int train_steps_;
  const float* const sample_;
  const float* const mask_;  // nullptr: the network takes none
  const std::int64_t* const timestep_;
  const float* const film_;
  float* const output_;
};

template <class Bound, class Network>
class NativeModel final : public Model {
 public:
  NativeModel(std::shared_ptr<const Network> network, std::shared_ptr<Team> team, const GraphSpec& spec,
              const std::vector<int>& rows)
      : network_(std::move(network)), team_(std::move(team)), spec_(spec), rows_(rows) {}

  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return std::make_unique<Bound>(network_, team_, spec_, rows_, tensors);
  }

 private:
  const std::shared_ptr<const Network> network_;
  const std::shared_ptr<Team> team_;
  const GraphSpec spec_;
  const std::vector<int> rows_;
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

  std::shared_ptr<const Model> load_film(const Safetensors& file, const GraphSpec& spec,
                                         const std::vector<int>& rows);
  std::shared_ptr<const Model> load_step(const Safetensors& file, const GraphSpec& spec,
                                         const std::vector<int>& rows);

  const std::string precision;
  const std::optional<Isa> isa;
  const int threads;
  const bool pin;
  const int spin_us;
  std::shared_ptr<Team> started;
};

std::shared_ptr<const Model> NativeEngine::Impl::load_film(const Safetensors& file, const GraphSpec& spec,
                                                           const std::vector<int>& rows) {
  const UnetSpec& unet = *spec.unet;
  const int width = film_width(unet.down_dims, unet.film_scale);
  const std::int64_t capacity = required(spec, false, "condition", 2).shape[0];
  check_shape(required(spec, false, "condition", 2), {capacity, width});
  check_shape(required(spec, true, "condition", 2), {capacity, unet.condition});
  auto network = std::make_shared<const FilmNetwork>(file, unet.condition, width, kernels(unet), *team());
  return std::make_shared<NativeModel<FilmGraph, FilmNetwork>>(std::move(network), team(), spec, rows);
}

std::shared_ptr<const Model> NativeEngine::Impl::load_step(const Safetensors& file, const GraphSpec& spec,
                                                           const std::vector<int>& rows) {
  const UnetSpec& unet = *spec.unet;
  const TensorSpec* mask = tensor_with(spec.inputs, "prefix_mask");
  if (spec.inputs.size() != (mask == nullptr ? 3 : 4))
    refuse("inputs", "sample, timestep, condition", std::to_string(spec.inputs.size()));
  const auto& sample = required(spec, true, "sample", 3).shape;
  if (mask != nullptr) check_shape(*mask, {sample[0], sample[1], 1});
  const std::int64_t longest = std::int64_t{1} << (unet.down_dims.size() - 1);
  if (sample[1] % longest != 0) {
    refuse("sample.shape", "a horizon divisible by " + std::to_string(longest) + " (levels of the U-Net)",
           to_string(sample));
  }
  check_shape(required(spec, false, "model_output", 3), sample);
  check_shape(required(spec, true, "condition", 2), {sample[0], film_width(unet.down_dims, unet.film_scale)});
  check_shape(required(spec, true, "timestep", 1), {1});
  const int actions = static_cast<int>(sample[2]);
  const NetworkShape shape{.inputs = actions + (mask == nullptr ? 0 : 1),
                           .actions = actions,
                           .horizon = static_cast<int>(sample[1]),
                           .kernel_size = unet.kernel_size,
                           .groups = unet.groups,
                           .train_steps = unet.train_steps,
                           .down_dims = unet.down_dims,
                           .film_scale = unet.film_scale};
  auto network = std::make_shared<const Network>(file, shape, kernels(unet), *team());
  return std::make_shared<NativeModel<StepGraph, Network>>(std::move(network), team(), spec, rows);
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

std::shared_ptr<const Model> NativeEngine::load(const Files& files, const GraphSpec& spec,
                                                const std::vector<int>& rows) {
  const std::string& name = spec.unet->file;
  const Safetensors file(content_of(files, name), readable(name));
  return tensor_with(spec.outputs, "model_output") != nullptr ? impl_->load_step(file, spec, rows)
                                                              : impl_->load_film(file, spec, rows);
}

std::string NativeEngine::description(const UnetSpec& unet) const {
  const Kernels& kernels = impl_->kernels(unet);
  return std::string("native ") + kernels.name + ", " + name(kernels.precision) + " weights, " +
         std::to_string(impl_->threads) + (impl_->threads == 1 ? " thread" : " threads");
}

}  // namespace keystep::native
