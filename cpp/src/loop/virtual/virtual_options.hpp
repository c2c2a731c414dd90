// What is declared of virtual time, checked.
#pragma once

#include "keystep/runtime.hpp"

namespace keystep {

/// Checks mode, the options of the asynchronous mode and those of virtual time, and takes the watchdog, which
/// reads a clock, out of it. Throws ArgumentError.
void check_loop(RuntimeOptions& options, const Bundle& bundle);

}  // namespace keystep
