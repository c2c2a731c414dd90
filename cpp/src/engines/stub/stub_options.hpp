// What `provider_options` inject into the stub engine. Runs of a session's graphs that write no condition and
// no score are counted together, from 1:
//
//   stub.nan_at_run   that run's first output value is NaN
//   stub.fail_at_run  that run returns engine_failure
//   stub.hang_at_run  that run takes stub.hang_us more, whoever terminates it
//   stub.sleep_us     every run of any graph takes at least so long; `terminate` ends it
//   stub.jitter_us    and up to so much longer, by a fixed sequence of a session's
//
// Faults by chance, each of so many runs in a million, by `stub.fault_seed` and the number of the graph's
// run:
//
//   stub.slow_ppm     takes stub.slow_us more; `terminate` ends it
//   stub.hang_ppm     takes stub.hang_us more, whoever terminates it
//   stub.fail_ppm     returns engine_failure
//   stub.nan_ppm      the first output value is NaN
//   stub.wild_ppm     the first output value is 1e6, which is beyond the bounds of most actions
//   stub.fault_period, stub.fault_length    only the first so many of so many runs of a graph; 0: any
//   stub.fault_stages sum of 1 encode, 2 plan (graphs in files plan*), 4 denoise and act; 7 by default
//
// stub.marks 1: `act` writes what it was made of. actions[0, h, d] = observation.state[d], and h more where
// d is 0; the last one is the mean of the goal, 0 without.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace keystep {

struct StubOptions {
  std::int64_t nan_at_run = 0, fail_at_run = 0, hang_at_run = 0;  ///< 0: never
  std::int64_t hang_us = 0, sleep_us = 0, jitter_us = 0;
  std::int64_t marks = 0;
  std::int64_t slow_ppm = 0, hang_ppm = 0, fail_ppm = 0, nan_ppm = 0, wild_ppm = 0;
  std::int64_t slow_us = 0;
  std::int64_t fault_seed = 0, fault_period = 0, fault_length = 0, fault_stages = 7;
};

/// Throws ArgumentError for what is no option or no count.
StubOptions stub_options(const std::map<std::string, std::string>& given);

}  // namespace keystep
