#include "engines/native/unet.hpp"

#include <algorithm>

namespace keystep::native {
namespace {

std::vector<Worker> workers_of(const Layers& layers, const Team& team, int batch) {
  std::vector<Worker> workers;
  for (int thread = 0; thread < team.size(); ++thread) workers.emplace_back(layers, thread, batch);
  return workers;
}

/// The output of a layer.
Activation output_of(const Layer& layer, const Team& team, int batch, int step = 1) {
  return {layer.outputs(), layer.out_length() * step, batch, team.size()};
}

Activation input_of(const Layer& layer, const Team& team, int batch) {
  return {*layer.inputs().front(), layer.in_length(), batch, team.size()};
}

/// `values` [batch, length, channels] without padding, spread over the segments; and back.
void scatter(const float* values, int batch, Activation& to) {
  for (int b = 0; b < batch; ++b) {
    for (int t = 0; t < to.length(); ++t, values += to.channels().count()) {
      for (const Segment& s : to.channels().segments())
        std::copy_n(values + s.first, s.count, to.row(b, t) + s.offset);
    }
  }
}

void gather(const Activation& from, int batch, const Segment& s, float* values) {
  for (int b = 0; b < batch; ++b) {
    for (int t = 0; t < from.length(); ++t, values += from.channels().count()) {
      std::copy_n(from.row(b, t) + s.offset, s.count, values + s.first);
    }
  }
}

/// Of values that no thread of the team has written.
void measure_all(const Kernels& kernels, int batch, Activation& x) {
  for (int b = 0; b < batch; ++b) {
    std::uint32_t most = 0;
    for (int t = 0; t < x.length(); ++t)
      most = std::max(most, kernels.peak(x.row(b, t), x.channels().padded()));
    x.peaks(0)[b] = most;
  }
}

}  // namespace

// ---- the condition's FiLM vectors

Film::Film(std::shared_ptr<const FilmNetwork> network, std::shared_ptr<Team> team, int batch)
    : network_(std::move(network)),
      team_(std::move(team)),
      batch_(batch),
      condition_(input_of(network_->layer(), *team_, batch)),
      film_(output_of(network_->layer(), *team_, batch)),
      workers_(workers_of(network_->layers(), *team_, batch)) {}

void Film::run(const float* condition, float* film) noexcept {
  const Kernels& kernels = network_->layers().kernels();
  const Layer& layer = network_->layer();
  scatter(condition, batch_, condition_);
  for (int b = 0; b < batch_; ++b) kernels.mish(condition_.row(b, 0), condition_.channels().padded());
  measure_all(kernels, batch_, condition_);
  team_->run([&](int thread) noexcept {
    workers_[thread].convert({&condition_}, {&layer});
    workers_[thread].convolve(layer, film_);
    gather(film_, batch_, layer.outputs().segments()[thread], film);
  });
}

// ---- a denoise step

DenoiseStep::DenoiseStep(std::shared_ptr<const Network> network, std::shared_ptr<Team> team, int batch)
    : network_(std::move(network)),
      team_(std::move(team)),
      batch_(batch),
      sample_(input_of(*network_->down.front().first.layer, *team_, batch)),
      last_(output_of(*network_->last.layer, *team_, batch)),
      output_(output_of(*network_->project, *team_, batch)),
      workers_(workers_of(network_->layers(), *team_, batch)) {
  for (const auto* blocks : {&network_->down, &network_->middle, &network_->up}) {
    for (const ResidualBlock& block : *blocks) {
      for (auto* kind : {&blocks_, &hidden_, &shortcut_})
        kind->push_back(output_of(*block.first.layer, *team_, batch));
    }
  }
  for (const Layer* layer : network_->shrink) shrunk_.push_back(output_of(*layer, *team_, batch));
  for (const Grow& grow : network_->grow) grown_.push_back(output_of(*grow[0], *team_, batch, 2));
}

/// One thread's way through the network. All threads meet where the next operation reads what others have
/// written.
class DenoiseStep::Path {
 public:
  Path(DenoiseStep& self, int thread, const float* film, const float* film_step) noexcept
      : self_(self),
        network_(*self.network_),
        worker_(self.workers_[thread]),
        film_(film),
        film_step_(film_step) {}

  /// As keystep.models.unet1d.ConditionalUnet1d.run.
  void run() noexcept {
    Activation* x = &self_.sample_;
    for (std::size_t level = 0; level < self_.shrunk_.size() + 1; ++level) {
      x = &residual(network_.down[2 * level], *x);
      x = &residual(network_.down[2 * level + 1], *x);
      if (level < self_.shrunk_.size()) x = &shrink(*network_.shrink[level], *x, self_.shrunk_[level]);
    }
    for (const ResidualBlock& block : network_.middle) x = &residual(block, *x);
    for (std::size_t i = 0; i < self_.grown_.size(); ++i) {
      Activation& skip =
          self_.blocks_[network_.down.size() - 1 - 2 * i];  // the last on this level going down
      x = &residual(network_.up[2 * i], *x, &skip);
      x = &residual(network_.up[2 * i + 1], *x);
      x = &grow(network_.grow[i], *x, self_.grown_[i]);
    }
    project(*x);
  }

 private:
  void meet() noexcept { self_.team_->barrier(); }

  /// Of `x`, or of `x` and `skip` side by side.
  Activation& residual(const ResidualBlock& block, Activation& x, Activation* skip = nullptr) noexcept {
    Activation &out = self_.blocks_[next_], &hidden = self_.hidden_[next_],
               &shortcut = self_.shortcut_[next_];
    ++next_;
    const Layer &first = *block.first.layer, &second = *block.second.layer;
    const Layer& reads_too = block.shortcut == nullptr ? first : *block.shortcut;
    const FilmVectors film{film_ + block.film, film_step_ + block.film, network_.film_width(),
                           network_.shape().film_scale};
    if (skip == nullptr) {
      worker_.convert({&x}, {&first, &reads_too});
    } else {
      worker_.convert({&x, skip}, {&first, &reads_too});
    }
    worker_.convolve(first, hidden);
    if (block.shortcut != nullptr) {
      worker_.convolve(*block.shortcut, shortcut);
    } else if (skip != nullptr) {
      worker_.join(x, *skip, shortcut);
    }
    worker_.normalise(block.first.norm, network_.shape().groups, hidden, &film, nullptr);
    meet();
    worker_.convert({&hidden}, {&second});
    worker_.convolve(second, out);
    worker_.normalise(block.second.norm, network_.shape().groups, out, nullptr,
                      block.shortcut == nullptr && skip == nullptr ? &x : &shortcut);
    meet();
    return out;
  }

  Activation& shrink(const Layer& layer, Activation& x, Activation& out) noexcept {
    worker_.convert({&x}, {&layer});
    worker_.convolve(layer, out);
    worker_.measure(out);
    meet();
    return out;
  }

  Activation& grow(const Grow& layers, Activation& x, Activation& out) noexcept {
    worker_.convert({&x}, {layers[0], layers[1]});
    worker_.convolve(*layers[0], out, 2, 0);
    worker_.convolve(*layers[1], out, 2, 1);
    worker_.measure(out);
    meet();
    return out;
  }

  void project(Activation& x) noexcept {
    worker_.convert({&x}, {network_.last.layer});
    worker_.convolve(*network_.last.layer, self_.last_);
    worker_.normalise(network_.last.norm, network_.shape().groups, self_.last_, nullptr, nullptr);
    meet();
    worker_.convert({&self_.last_}, {network_.project});
    worker_.convolve(*network_.project, self_.output_);
  }

  DenoiseStep& self_;
  const Network& network_;
  Worker& worker_;
  const float *film_, *film_step_;
  std::size_t next_ = 0;  // residual block
};

void DenoiseStep::run(const float* sample, std::int64_t timestep, const float* film, float* output) noexcept {
  scatter(sample, batch_, sample_);
  measure_all(network_->layers().kernels(), batch_, sample_);
  team_->run([&](int thread) noexcept { Path(*this, thread, film, network_->film_step(timestep)).run(); });
  for (const Segment& segment : output_.channels().segments()) gather(output_, batch_, segment, output);
}

}  // namespace keystep::native
