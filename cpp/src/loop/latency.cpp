#include "keystep/latency.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "support/clock.hpp"

namespace keystep {
namespace {

constexpr int kSubBits = 5;  // 32 buckets per power of two
constexpr std::int64_t kSub = 1 << kSubBits;

// Values below 64 ns have a bucket each; above, the leading 6 bits choose the bucket.
int shift_of(std::int64_t value) noexcept {
  const int bits = std::bit_width(static_cast<std::uint64_t>(value));
  return std::max(bits - 1 - kSubBits, 0);
}

std::int64_t bucket_of(std::int64_t value) noexcept {
  const int shift = shift_of(value);
  return shift * kSub + (value >> shift);
}

/// The greatest value that falls into the bucket.
std::int64_t upper_edge(std::int64_t bucket) noexcept {
  const std::int64_t shift = std::max<std::int64_t>(bucket / kSub - 1, 0);
  return ((bucket - shift * kSub + 1) << shift) - 1;
}

}  // namespace

const char* name(Stage stage) noexcept {
  switch (stage) {
    case Stage::observe:
      return "observe";
    case Stage::plan:
      return "plan";
    case Stage::score:
      return "score";
    case Stage::encode:
      return "encode";
    case Stage::denoise:
      return "denoise";
    case Stage::gate:
      return "gate";
    case Stage::tick:
      return "tick";
    case Stage::interrupt:
      return "interrupt";
  }
  return "unknown stage";
}

void Histogram::record(std::int64_t nanoseconds) noexcept {
  const std::int64_t value = std::max<std::int64_t>(nanoseconds, 0);
  const std::int64_t bucket = std::min<std::int64_t>(bucket_of(value), kBuckets - 1);
  counts_[static_cast<std::size_t>(bucket)].add();
  count_.add();
  total_ns_.add(static_cast<std::uint64_t>(value));
  if (value > max_ns()) max_ns_ = static_cast<std::uint64_t>(value);
}

void Histogram::reset() noexcept { *this = {}; }

double Histogram::total_us() const noexcept { return 1e-3 * static_cast<double>(total_ns_.get()); }

double Histogram::max_us() const noexcept { return 1e-3 * static_cast<double>(max_ns()); }

double Histogram::quantile_us(double q) const noexcept {
  if (count() == 0) return 0;
  const auto rank =
      static_cast<std::uint64_t>(std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count())));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket + 1 < counts_.size(); ++bucket) {
    seen += counts_[bucket].get();
    if (seen >= std::max<std::uint64_t>(rank, 1)) {
      return 1e-3 * static_cast<double>(std::min(upper_edge(static_cast<std::int64_t>(bucket)), max_ns()));
    }
  }
  return max_us();  // the last bucket also holds everything above the range
}

StageTimer::StageTimer(Histogram& histogram, const TraceLabel* label, std::int64_t argument,
                       std::uint64_t flow) noexcept
    : histogram_(histogram), start_ns_(trace_now_ns()) {
  TraceTrack* const track = detail::current_track;
  if (track == nullptr || label == nullptr) return;
  if (detail::begin_span(*track, *label, start_ns_, argument, flow)) track_ = track;
}

StageTimer::~StageTimer() {
  const std::int64_t end_ns = trace_now_ns();
  histogram_.record(end_ns - start_ns_);
  if (track_ != nullptr) detail::end_span(*track_, end_ns);
}

}  // namespace keystep
