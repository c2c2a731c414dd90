// Loads a bundle and ticks it: a whole control loop with no Python in the process. Twin of examples/tick.py.
//
//   tick BUNDLE [--task NAME] [--ticks N] [--onnxruntime PATH]
//
// The observation is the mean of the training data and grey images; a robot would put its sensors here.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "keystep/keystep.hpp"

namespace {

struct Arguments {
  std::string bundle, task, onnxruntime;
  int ticks = 100;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (!key.starts_with("--")) {
      arguments.bundle = key;
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument(key + ": expected a value, got none");
    const std::string value = argv[++i];
    if (key == "--task") {
      arguments.task = value;
    } else if (key == "--ticks") {
      arguments.ticks = std::stoi(value);
    } else if (key == "--onnxruntime") {
      arguments.onnxruntime = value;
    } else {
      throw std::invalid_argument("expected --task, --ticks or --onnxruntime, got " + key);
    }
  }
  if (arguments.bundle.empty()) throw std::invalid_argument("BUNDLE: expected a folder, got none");
  return arguments;
}

/// Owns what an Observation only points at.
struct MeanObservation {
  explicit MeanObservation(const keystep::Bundle& bundle) : state(bundle.observation.state_names.size()) {
    for (std::size_t i = 0; i < state.size(); ++i) {
      const keystep::Normalization& stats = bundle.normalization.at("observation.state");
      if (stats.mode == "mean_std") state[i] = static_cast<float>(stats.low_or_mean[i]);
      if (stats.mode == "min_max" || stats.mode == "quantile")
        state[i] = static_cast<float>((stats.low_or_mean[i] + stats.high_or_std[i]) / 2);
    }
    for (const keystep::ImageSpec& spec : bundle.observation.images) {
      pixels.emplace_back(static_cast<std::size_t>(spec.height) * spec.width * 3, std::uint8_t{128});
      views.push_back({pixels.back().data(), spec.height, spec.width});
    }
  }
  keystep::Observation view() const { return {.state = state, .images = views}; }

  std::vector<float> state;
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<keystep::ImageView> views;
};

void print(const keystep::LatencyReport& report) {
  std::printf("%-8s %8s %10s %10s %10s %10s %10s  [us]\n", "stage", "count", "p50", "p90", "p99", "p99.9",
              "max");
  for (int i = 0; i < keystep::kStages; ++i) {
    const keystep::StageLatency& stage = report.stages[i];
    std::printf("%-8s %8llu %10.1f %10.1f %10.1f %10.1f %10.1f\n",
                keystep::name(static_cast<keystep::Stage>(i)), static_cast<unsigned long long>(stage.count),
                stage.p50_us, stage.p90_us, stage.p99_us, stage.p999_us, stage.max_us);
  }
  std::printf(
      "time per action %.1f us, %llu actions, %llu plans, %llu chunks, %llu of the ticks over %.0f us\n",
      report.time_per_action_us, static_cast<unsigned long long>(report.actions),
      static_cast<unsigned long long>(report.plans), static_cast<unsigned long long>(report.chunks),
      static_cast<unsigned long long>(report.deadline_misses), report.deadline_us);
}

int run(const Arguments& arguments) {
  keystep::RuntimeOptions options;
  options.engine.onnxruntime_library = arguments.onnxruntime;
  keystep::Runtime runtime(arguments.bundle, options);
  const keystep::Bundle& bundle = runtime.bundle();
  std::printf("%s: %s\n", bundle.name.c_str(), runtime.engine_description().c_str());

  const MeanObservation mean(bundle);
  keystep::EpisodeContext episode;
  episode.task = arguments.task.empty() && !bundle.tasks.empty() ? bundle.tasks[0].name : arguments.task;
  if (bundle.goal == "observation") episode.goal = mean.view();
  runtime.reset(episode);

  keystep::Action action = runtime.make_action();
  for (int i = 0; i < arguments.ticks; ++i) {
    const keystep::Status status = runtime.tick(mean.view(), action);
    // A robot would go on holding: it is sent what a failed tick gives, too, but never what is not finite.
    if (status != keystep::Status::ok) throw keystep::Error(runtime.last_error());
    if (i < 3) {
      std::printf("tick %d %s:", i, keystep::describe(status));
      for (const float value : action.values) std::printf(" %.6f", value);
      std::printf("\n");
    }
  }
  print(runtime.latency());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
