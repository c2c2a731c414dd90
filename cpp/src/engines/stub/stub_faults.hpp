// Faults by chance, of the stub engine: which run of a graph is slow, hangs, fails or writes
// nonsense follows from a seed and the run's number alone.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "engines/stub/stub_options.hpp"
#include "keystep/bundle.hpp"
#include "keystep/noise.hpp"

namespace keystep {

enum class StubFault { none, slow, hang, fail, nan, wild };

class StubFaults {
 public:
  StubFaults(const StubOptions& options, const GraphSpec& graph)
      : options_(options), name_(hash(graph.file)), possible_(is_possible(options, graph)) {}

  /// Of the next run.
  StubFault next() noexcept {
    if (!possible_) return StubFault::none;
    const std::uint32_t run = run_++;
    if (options_.fault_period > 0 && run % options_.fault_period >= options_.fault_length) {
      return StubFault::none;
    }
    const auto seed = static_cast<std::uint64_t>(options_.fault_seed);
    const auto words = philox4x32({run, name_, kBlock, 0},
                                  {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
    std::int64_t drawn = words[0] % 1'000'000;
    const std::pair<StubFault, std::int64_t> kinds[] = {{StubFault::slow, options_.slow_ppm},
                                                        {StubFault::hang, options_.hang_ppm},
                                                        {StubFault::fail, options_.fail_ppm},
                                                        {StubFault::nan, options_.nan_ppm},
                                                        {StubFault::wild, options_.wild_ppm}};
    for (const auto& [fault, ppm] : kinds) {
      if (drawn < ppm) return fault;
      drawn -= ppm;
    }
    return StubFault::none;
  }

 private:
  static constexpr std::uint32_t kBlock = 0xfa017u;
  enum Stage : std::int64_t { kEncode = 1, kPlan = 2, kDenoise = 4 };

  /// FNV-1a.
  static std::uint32_t hash(const std::string& text) noexcept {
    std::uint32_t value = 2166136261u;
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 16777619u;
    return value;
  }

  /// Not of the text encoder: it runs in `reset`, whose caller is told.
  static bool is_possible(const StubOptions& options, const GraphSpec& graph) {
    for (const TensorSpec& input : graph.inputs) {
      if (input.dtype == DType::string) return false;
    }
    const bool plans = graph.file.starts_with("plan");
    const bool encodes = graph.outputs.front().role == "condition";
    const Stage stage = plans ? kPlan : encodes ? kEncode : kDenoise;
    return (options.fault_stages & stage) != 0;
  }

  const StubOptions options_;
  const std::uint32_t name_;
  const bool possible_;
  std::uint32_t run_ = 0;
};

}  // namespace keystep
