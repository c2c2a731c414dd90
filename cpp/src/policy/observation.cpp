#include "keystep/observation.hpp"

#include <chrono>

namespace keystep {

std::int64_t now_us() noexcept {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace keystep
