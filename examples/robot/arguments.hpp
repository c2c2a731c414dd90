// What robot.cpp is told.
#pragma once

#include <cstdlib>
#include <map>
#include <string>

#include "keystep/keystep.hpp"

namespace robot {

/// As in robot.py, where each is explained.
struct Arguments {
  std::string bundle, task, name = "keystep-robot", underrun = "hold", onnxruntime;
  double seed = 0, seconds = 0, arm_hz = 100, camera_hz = 30, max_age_ms = 200, patience_s = 1, wait_s = 10;
  double fifo_priority = 0;
  bool lock_memory = false;
};

inline double parsed(const std::string& key, const std::string& value) {
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !(number >= 0 && number < 1e15)) {
    throw keystep::ArgumentError(keystep::expected(key, "a number of 0 or more", value));
  }
  return number;
}

inline Arguments parse(int argc, char** argv) {
  Arguments all;
  const std::map<std::string, std::string*> texts = {{"--task", &all.task},
                                                     {"--name", &all.name},
                                                     {"--underrun", &all.underrun},
                                                     {"--onnxruntime", &all.onnxruntime}};
  const std::map<std::string, double*> numbers = {{"--seed", &all.seed},
                                                  {"--seconds", &all.seconds},
                                                  {"--arm-hz", &all.arm_hz},
                                                  {"--camera-hz", &all.camera_hz},
                                                  {"--max-age-ms", &all.max_age_ms},
                                                  {"--patience-s", &all.patience_s},
                                                  {"--wait-s", &all.wait_s},
                                                  {"--fifo-priority", &all.fifo_priority}};
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (!key.starts_with("--")) {
      all.bundle = key;
    } else if (key == "--lock-memory") {
      all.lock_memory = true;
    } else if (!texts.contains(key) && !numbers.contains(key)) {
      throw keystep::ArgumentError(keystep::expected("arguments", "those of robot.py", key));
    } else if (i + 1 == argc) {
      throw keystep::ArgumentError(keystep::expected(key, "a value", "none"));
    } else if (texts.contains(key)) {
      *texts.at(key) = argv[++i];
    } else {
      *numbers.at(key) = parsed(key, argv[++i]);
    }
  }
  if (all.bundle.empty()) throw keystep::ArgumentError(keystep::expected("BUNDLE", "a folder", "none"));
  return all;
}

}  // namespace robot
