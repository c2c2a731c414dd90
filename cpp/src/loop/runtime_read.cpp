// The public face of a runtime for those who look on.
#include "keystep/runtime.hpp"
#include "loop/runtime_impl.hpp"

namespace keystep {

/// Who reads what has a copy of its own.
bool Runtime::Impl::admits_reader(Status* told) const noexcept {
  const Status status = usable();
  if (told != nullptr) *told = status;
  return status == Status::ok;
}

std::size_t Runtime::plan_size() const noexcept { return impl_->plan_size; }

bool Runtime::plan(std::span<float> out, Status* status) const noexcept {
  if (impl_->async) return impl_->admits_reader(status) && impl_->async->plans().plan(out);
  const Entry entry(impl_->inside, Inside::reader);  // close frees the planner
  return impl_->admits(entry, status) && impl_->planner->plan(out);
}

bool Runtime::candidates(PlanCandidates& out, Status* status) const noexcept {
  if (impl_->async) return impl_->admits_reader(status) && impl_->async->plans().candidates(out);
  const Entry entry(impl_->inside, Inside::reader);
  return impl_->admits(entry, status) && impl_->planner->candidates(out);
}

PlanProgress Runtime::plan_progress(Status* status) const noexcept {
  if (impl_->async) {
    if (!impl_->admits_reader(status)) return {};
    return impl_->async->plans().progress(impl_->async->telemetry().consumed);
  }
  const Entry entry(impl_->inside, Inside::reader);
  if (!impl_->admits(entry, status)) return {};
  return impl_->planner->progress(impl_->buffer.consumed());
}

Telemetry Runtime::telemetry() const noexcept {
  if (impl_->virtual_wait) return impl_->virtual_wait->telemetry();
  return impl_->async ? impl_->async->telemetry() : Telemetry{};
}

LatencyReport Runtime::latency(Status* status) const noexcept {
  Impl& self = *impl_;
  if (self.async) {
    self.admits_reader(status);
    return self.report(self.async->telemetry().gate);
  }
  const Entry entry(self.inside, Inside::reader);
  self.admits(entry, status);
  return entry ? self.report(self.gate.counts()) : LatencyReport{};
}

LatencyReport Runtime::Impl::report(const GateCounts& counts) const noexcept {
  LatencyReport report = recorder.report();
  report.interrupts = interrupts.counted;
  report.time_per_action_us = recorder.time_per_action_us(async != nullptr);
  report.deadline_us = options.deadline_us;
  report.gate = counts;
  return report;
}

Status Runtime::reset_latency() noexcept {
  Impl& self = *impl_;
  const Entry entry(self.inside, Inside::reader);
  if (const Status status = self.refusal(entry); status != Status::ok) return status;
  self.recorder = {};
  self.interrupts.counted = 0;
  self.gate.counts() = {};
  if (self.async) self.async->reset_counts();
  if (self.virtual_wait) self.virtual_wait->reset_counts();
  return Status::ok;
}

}  // namespace keystep
