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

/// Owns what an Observation only points at: grey images, and the mean of everything else.
struct MeanObservation {
  explicit MeanObservation(const keystep::Bundle& bundle) {
    values.reserve(bundle.observation.size());
    for (const keystep::FeatureSpec& feature : bundle.observation) add(feature);
  }
  keystep::Observation view() const { return {.features = views}; }

  std::vector<std::vector<float>> values;
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<keystep::FeatureView> views;

 private:
  void add(const keystep::FeatureSpec& feature) {
    const auto& shape = feature.shape;
    if (feature.kind == "rgb") {
      pixels.emplace_back(static_cast<std::size_t>(shape[0] * shape[1] * 3), std::uint8_t{128});
      views.emplace_back(pixels.back().data(), shape[0], shape[1]);
    } else if (feature.kind == "depth") {
      values.emplace_back(static_cast<std::size_t>(shape[0] * shape[1]), mean(feature.normalization, 0));
      views.emplace_back(values.back().data(), shape[0], shape[1]);
    } else {
      values.emplace_back();
      for (std::int64_t i = 0; i < shape[0]; ++i) {
        values.back().push_back(mean(feature.normalization, static_cast<std::size_t>(i)));
      }
      views.emplace_back(values.back());
    }
  }

  static float mean(const keystep::Normalization& stats, std::size_t i) {
    if (stats.mode == "identity") return 0;
    if (stats.mode == "mean_std") return static_cast<float>(stats.low_or_mean[i]);
    return static_cast<float>((stats.low_or_mean[i] + stats.high_or_std[i]) / 2);
  }
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
