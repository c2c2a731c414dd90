#include "loop/virtual/virtual_options.hpp"

#include <string>

#include "keystep/status.hpp"
#include "loop/async/async_options.hpp"

namespace keystep {
namespace {

constexpr double kLongest = 1e6;  // periods

void check_periods(const std::string& field, const std::vector<double>& periods) {
  for (std::size_t i = 0; i < periods.size(); ++i) {
    if (periods[i] >= 0 && periods[i] <= kLongest) continue;  // false of NaN
    throw ArgumentError(expected("virtual_time." + field + "[" + std::to_string(i) + "]",
                                 "0..1000000 control periods", std::to_string(periods[i])));
  }
}

}  // namespace

void check_loop(RuntimeOptions& options, const Bundle& bundle) {
  if (!options.virtual_time) return check_async(options.mode, options.async, bundle);
  const VirtualTime& time = *options.virtual_time;
  const bool lockstep = options.mode == "lockstep";
  AsyncOptions rest = options.async;
  if (lockstep) {  // which waits in virtual time, and is told how
    if (rest.underrun == "fault") {
      throw ArgumentError(
          expected("underrun", "hold | decelerate | repeat (mode is lockstep)", in_quotes(rest.underrun)));
    }
    check_async("async", {.underrun = rest.underrun}, bundle);
    rest.underrun.clear();
  }
  check_async(options.mode, rest, bundle);
  check_periods("chunk", time.chunk);
  check_periods("plan", time.plan);
  if (!time.skips && (lockstep || rest.merge != "replace")) {
    const std::string got = lockstep ? "mode lockstep" : "merge " + in_quotes(rest.merge);
    throw ArgumentError(expected("virtual_time.skips", "true, or mode async with merge replace", got));
  }
  if (!lockstep) options.async.watchdog_us = 0;
}

}  // namespace keystep
