// Threads do not survive a fork: what waits for them in a child waits for ever.
#pragma once

#include <cstdint>

namespace keystep {

/// Forks between the process that loaded this library and this one. A load, where `getpid` is a system call.
std::uint64_t forks() noexcept;

}  // namespace keystep
