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

/// The mask as one more channel of every row.
const float* join(const float* sample, const float* mask, int actions, std::vector<float>& joined) noexcept {
  for (float* to = joined.data(); to != joined.data() + joined.size(); sample += actions) {
    to = std::copy_n(sample, actions, to);
    *to++ = *mask++;
  }
  return joined.data();
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

Film::~Film() { team_->settle(); }

void Film::run(const float* condition, float* film) noexcept {
  const Kernels& kernels = network_->layers().kernels();
  scatter(condition, batch_, condition_);
  for (int b = 0; b < batch_; ++b) kernels.mish(condition_.row(b, 0), condition_.channels().padded());
  measure_all(kernels, batch_, condition_);
  output_ = film;
  team_->run(*this);
}

void Film::walk(Team::Member& member) noexcept {
  const Layer& layer = network_->layer();
  member.share([&](int part) {
    workers_[part].convert({&condition_}, {&layer});
    workers_[part].convolve(layer, film_);
    gather(film_, batch_, layer.outputs().segments()[part], output_);
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
  const NetworkShape& shape = network_->shape();
  if (shape.inputs > shape.actions)
    masked_.resize(static_cast<std::size_t>(batch * shape.horizon * shape.inputs));
  for (const auto* blocks : {&network_->down, &network_->middle, &network_->up}) {
    for (const ResidualBlock& block : *blocks) {
      for (auto* kind : {&blocks_, &hidden_, &shortcut_})
        kind->push_back(output_of(*block.first.layer, *team_, batch));
    }
  }
  for (const Layer* layer : network_->shrink) shrunk_.push_back(output_of(*layer, *team_, batch));
  for (const Grow& grow : network_->grow) grown_.push_back(output_of(*grow[0], *team_, batch, 2));
}

DenoiseStep::~DenoiseStep() { team_->settle(); }

/// One thread's way through the network. A stage ends where the next operation reads what all parts have
/// written.
class DenoiseStep::Path {
 public:
  Path(DenoiseStep& self, Team::Member& member) noexcept
      : self_(self), network_(*self.network_), member_(member) {}

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
  /// A stage: `work` on the channels of each part.
  template <class Work>
  void share(Work&& work) noexcept {
    member_.share([&](int part) { work(self_.workers_[static_cast<std::size_t>(part)]); });
  }

  /// Of `x`, or of `x` and `skip` side by side.
  Activation& residual(const ResidualBlock& block, Activation& x, Activation* skip = nullptr) noexcept {
    Activation &out = self_.blocks_[next_], &hidden = self_.hidden_[next_],
               &shortcut = self_.shortcut_[next_];
    ++next_;
    const Layer &first = *block.first.layer, &second = *block.second.layer;
    const Layer& reads_too = block.shortcut == nullptr ? first : *block.shortcut;
    const int groups = network_.shape().groups;
    share([&](Worker& worker) {
      const FilmVectors film{self_.film_ + block.film, self_.film_step_ + block.film, network_.film_width(),
                             network_.shape().film_scale};
      if (skip == nullptr) {
        worker.convert({&x}, {&first, &reads_too});
      } else {
        worker.convert({&x, skip}, {&first, &reads_too});
      }
      worker.convolve(first, hidden);
      if (block.shortcut != nullptr) {
        worker.convolve(*block.shortcut, shortcut);
      } else if (skip != nullptr) {
        worker.join(x, *skip, shortcut);
      }
      worker.normalise(block.first.norm, groups, hidden, &film, nullptr);
    });
    Activation& added = block.shortcut == nullptr && skip == nullptr ? x : shortcut;
    share([&](Worker& worker) {
      worker.convert({&hidden}, {&second});
      worker.convolve(second, out);
      worker.normalise(block.second.norm, groups, out, nullptr, &added);
    });
    return out;
  }

  Activation& shrink(const Layer& layer, Activation& x, Activation& out) noexcept {
    share([&](Worker& worker) {
      worker.convert({&x}, {&layer});
      worker.convolve(layer, out);
      worker.measure(out);
    });
    return out;
  }

  Activation& grow(const Grow& layers, Activation& x, Activation& out) noexcept {
    share([&](Worker& worker) {
      worker.convert({&x}, {layers[0], layers[1]});
      worker.convolve(*layers[0], out, 2, 0);
      worker.convolve(*layers[1], out, 2, 1);
      worker.measure(out);
    });
    return out;
  }

  void project(Activation& x) noexcept {
    share([&](Worker& worker) {
      worker.convert({&x}, {network_.last.layer});
      worker.convolve(*network_.last.layer, self_.last_);
      worker.normalise(network_.last.norm, network_.shape().groups, self_.last_, nullptr, nullptr);
    });
    share([&](Worker& worker) {
      worker.convert({&self_.last_}, {network_.project});
      worker.convolve(*network_.project, self_.output_);
    });
  }

  DenoiseStep& self_;
  const Network& network_;
  Team::Member& member_;
  std::size_t next_ = 0;  // residual block
};

void DenoiseStep::run(const float* sample, const float* mask, std::int64_t timestep, const float* film,
                      float* output) noexcept {
  scatter(masked_.empty() ? sample : join(sample, mask, network_->shape().actions, masked_), batch_, sample_);
  measure_all(network_->layers().kernels(), batch_, sample_);
  film_ = film;
  film_step_ = network_->film_step(timestep);
  team_->run(*this);
  for (const Segment& segment : output_.channels().segments()) gather(output_, batch_, segment, output);
}

void DenoiseStep::walk(Team::Member& member) noexcept { Path(*this, member).run(); }

}  // namespace keystep::native
