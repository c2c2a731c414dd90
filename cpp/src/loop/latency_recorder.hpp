// What a runtime counts and times, and the report made of it.
#pragma once

#include <array>
#include <cstdint>

#include "keystep/latency.hpp"

namespace keystep {

struct LatencyRecorder {
  std::array<Histogram, kStages> histograms;
  Count actions, plans, chunks, deadline_misses;

  Histogram& operator[](Stage stage) noexcept { return histograms[static_cast<std::size_t>(stage)]; }

  void record_tick(std::int64_t nanoseconds, double deadline_us) noexcept {
    (*this)[Stage::tick].record(nanoseconds);
    deadline_misses.add(static_cast<double>(nanoseconds) > 1e3 * deadline_us);
  }

  /// All but `interrupts`, `deadline_us`, `time_per_action_us` and `gate`, of which others know more.
  LatencyReport report() const noexcept {
    LatencyReport report;
    for (std::size_t i = 0; i < histograms.size(); ++i) {
      const Histogram& h = histograms[i];
      const double mean_us = h.count() ? h.total_us() / static_cast<double>(h.count()) : 0;
      report.stages[i] = {h.count(),           mean_us,
                          h.quantile_us(0.5),  h.quantile_us(0.9),
                          h.quantile_us(0.99), h.quantile_us(0.999),
                          h.max_us()};
    }
    report.actions = actions.get();
    report.plans = plans.get();
    report.chunks = chunks.get();
    report.deadline_misses = deadline_misses.get();
    return report;
  }

  /// Over actions executed. Where stages run beside the ticks (`apart`), theirs are the work.
  double time_per_action_us(bool apart) const noexcept {
    double total_us = histograms[static_cast<std::size_t>(Stage::tick)].total_us();
    for (const Stage stage : {Stage::plan, Stage::encode, Stage::denoise}) {
      if (apart) total_us += histograms[static_cast<std::size_t>(stage)].total_us();
    }
    return actions.get() ? total_us / static_cast<double>(actions.get()) : 0;
  }
};

}  // namespace keystep
