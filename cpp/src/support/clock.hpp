// Nanoseconds of the steady clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace keystep {

inline std::int64_t now_ns() noexcept {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace keystep
