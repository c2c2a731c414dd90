// What this machine offers to threads.
#pragma once

namespace keystep {

/// Of the machine. Hyper-threads share the units that matrix products need: one thread each is the fastest.
int physical_cores();
/// CPUs that the calling thread may run on (its affinity mask).
int available_cores();

}  // namespace keystep
