// keystep's reports as text: what Python's print shows.
#pragma once

#include <array>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "keystep/keystep.hpp"

namespace robot {

/// As printf, up to 500 bytes.
[[gnu::format(printf, 1, 2)]] inline std::string text(const char* format, ...) {
  std::array<char, 512> line{};
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line.data(), line.size(), format, arguments);
  va_end(arguments);
  return line.data();
}

inline unsigned long long number(std::uint64_t value) { return value; }

inline std::string shown(const char* name, const keystep::Spread& spread) {
  return text("%-8s [us]  Min: %9.1f  Avg: %9.1f  P99: %9.1f  Max: %9.1f\n", name, spread.min_us,
              spread.avg_us, spread.p99_us, spread.max_us);
}

/// What of these was counted: "3 late, 1 hung", or "none".
template <class Counts, class Name>
std::string counted(const Counts& counts, int first, Name name) {
  std::string all;
  for (int i = first; i < static_cast<int>(counts.size()); ++i) {
    if (counts[static_cast<std::size_t>(i)] == 0) continue;
    all += (all.empty() ? "" : ", ") + std::to_string(counts[static_cast<std::size_t>(i)]) + " " + name(i);
  }
  return all.empty() ? "none" : all;
}

inline std::string shown(const keystep::ThreadReport& thread) {
  std::string cores;
  for (const int core : thread.cores) cores += (cores.empty() ? "" : ", ") + std::to_string(core);
  std::string all = thread.policy + text(" priority %d, cores [", thread.priority) + cores + "], memory " +
                    (thread.memory_locked ? "locked" : "not locked") +
                    text(", %zu bytes of stack touched\n", thread.prefaulted);
  for (const std::string& refusal :
       {thread.fifo_refusal, thread.cores_refusal, thread.memory_refusal, thread.stack_refusal}) {
    if (!refusal.empty()) all += "not obtained: " + refusal + "\n";
  }
  return all;
}

inline std::string shown(const keystep::RunReport& run) {
  const std::string not_ok = counted(
      run.statuses, 1, [](int status) { return keystep::describe(static_cast<keystep::Status>(status)); });
  return shown(run.thread) +
         text("%llu periods at %g Hz, %llu overran, %llu skipped; not ok: ", number(run.periods), run.rate_hz,
              number(run.overruns), number(run.skipped)) +
         not_ok + text("; %llu withheld\n", number(run.withheld)) + shown("latency", run.latency) +
         shown("interval", run.interval) + shown("work", run.work) +
         text(
             "page faults %llu minor, %llu major; switches %llu voluntary, %llu involuntary; load %.2f %.2f "
             "%.2f\n",
             number(run.minor_faults), number(run.major_faults), number(run.voluntary_switches),
             number(run.involuntary_switches), run.load_after[0], run.load_after[1], run.load_after[2]);
}

inline std::string shown(const keystep::Telemetry& told) {
  std::uint64_t missed = 0;
  for (const std::uint64_t underruns : told.underruns) missed += underruns;
  return text("%llu ticks, %llu actions, %llu without one (", number(told.ticks), number(told.actions),
              number(missed)) +
         counted(told.underruns, 0,
                 [](int cause) { return keystep::name(static_cast<keystep::Cause>(cause)); }) +
         text(
             ")\n%llu chunks, %llu continued the one before, %llu outdated, %llu failed; %llu plans, %llu "
             "failed; %llu actions for a late goal\n",
             number(told.chunks), number(told.chunks_continued), number(told.chunks_outdated),
             number(told.chunks_failed), number(told.plans), number(told.plans_failed),
             number(told.late_goals)) +
         text("delay %lld actions, at most %lld; %lld left; %llu interrupts; %llu hangs%s\n",
              static_cast<long long>(told.delay), static_cast<long long>(told.max_delay),
              static_cast<long long>(told.left), number(told.interrupts), number(told.hangs),
              told.hung != 0 ? ", hung now" : "");
}

inline std::string shown(const keystep::LatencyReport& report, const std::string& engine) {
  std::string all = text("%-8s%9s%12s%12s%12s%12s%12s\n", "stage", "count", "p50 us", "p90 us", "p99 us",
                         "p99.9 us", "max us");
  for (int i = 0; i < keystep::kStages; ++i) {
    const keystep::StageLatency& stage = report.stages[static_cast<std::size_t>(i)];
    if (stage.count == 0) continue;
    all += text("%-8s%9llu%12.2f%12.2f%12.2f%12.2f%12.2f\n", keystep::name(static_cast<keystep::Stage>(i)),
                number(stage.count), stage.p50_us, stage.p90_us, stage.p99_us, stage.p999_us, stage.max_us);
  }
  const bool planned = report.plans > 0;
  const keystep::GateCounts& gate = report.gate;
  return all +
         text("time per action %.2f us, %llu actions, ", report.time_per_action_us, number(report.actions)) +
         (planned ? text("%llu plans, ", number(report.plans)) : "") +
         text("%llu chunks; %llu ticks over %.0f us\nsafety gate: ", number(report.chunks),
              number(report.deadline_misses), report.deadline_us) +
         (gate.rejected_plans > 0 ? text("%llu plans, ", number(gate.rejected_plans)) : "") +
         text("%llu chunks rejected, %llu values bounded, %llu rate-limited, %llu stale observations\n",
              number(gate.rejected_chunks), number(gate.bounded_values), number(gate.rate_limited_values),
              number(gate.stale_observations)) +
         "engine: " + engine + "\n";
}

}  // namespace robot
