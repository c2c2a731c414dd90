#include "engines/stub/stub_options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::array<std::pair<const char*, std::int64_t StubOptions::*>, 17> kOptions = {
    {{"stub.nan_at_run", &StubOptions::nan_at_run},
     {"stub.fail_at_run", &StubOptions::fail_at_run},
     {"stub.hang_at_run", &StubOptions::hang_at_run},
     {"stub.hang_us", &StubOptions::hang_us},
     {"stub.sleep_us", &StubOptions::sleep_us},
     {"stub.jitter_us", &StubOptions::jitter_us},
     {"stub.marks", &StubOptions::marks},
     {"stub.slow_ppm", &StubOptions::slow_ppm},
     {"stub.hang_ppm", &StubOptions::hang_ppm},
     {"stub.fail_ppm", &StubOptions::fail_ppm},
     {"stub.nan_ppm", &StubOptions::nan_ppm},
     {"stub.wild_ppm", &StubOptions::wild_ppm},
     {"stub.slow_us", &StubOptions::slow_us},
     {"stub.fault_seed", &StubOptions::fault_seed},
     {"stub.fault_period", &StubOptions::fault_period},
     {"stub.fault_length", &StubOptions::fault_length},
     {"stub.fault_stages", &StubOptions::fault_stages}}};

std::string names() {
  std::string all;
  for (const auto& [name, option] : kOptions) all += (all.empty() ? "" : " | ") + std::string(name);
  return all;
}

std::int64_t count_of(const std::string& key, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return value;
  throw ArgumentError(expected("provider_options." + key, "an integer of 0 or more", "'" + text + "'"));
}

}  // namespace

StubOptions stub_options(const std::map<std::string, std::string>& given) {
  StubOptions options;
  for (const auto& [key, value] : given) {
    const auto found = std::ranges::find(kOptions, key, [](const auto& entry) { return entry.first; });
    if (found == kOptions.end()) {
      throw ArgumentError(expected("provider_options", names(), "'" + key + "'"));
    }
    options.*found->second = count_of(key, value);
  }
  return options;
}

}  // namespace keystep
