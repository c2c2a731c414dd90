// What the options of the asynchronous mode come to for a bundle.
#pragma once

#include <optional>
#include <string>

#include "keystep/async.hpp"
#include "keystep/bundle.hpp"
#include "loop/async/action_queue.hpp"
#include "loop/async/chunk_maker.hpp"
#include "loop/async/underrun.hpp"

namespace keystep {

/// Throws ArgumentError for what is no mode, what is out of range, and what lockstep does not take.
void check_async(const std::string& mode, const AsyncOptions& options, const Bundle& bundle);

// Of options that were checked.
ActionQueue::Settings queue_settings(const AsyncOptions& options, const Bundle& bundle);
/// The chunks that lockstep averages; none where they come one after the other.
std::optional<ActionQueue> lockstep_ensemble(const std::string& mode, const AsyncOptions& options,
                                             const Bundle& bundle);
Continuing continuing(const AsyncOptions& options, const Bundle& bundle) noexcept;
UnderrunPolicy underrun_policy(const AsyncOptions& options) noexcept;
int plan_ahead(const AsyncOptions& options, const Bundle& bundle) noexcept;
int request_below(const AsyncOptions& options, const Bundle& bundle) noexcept;

}  // namespace keystep
