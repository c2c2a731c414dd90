#include "loop/fork.hpp"

#include <pthread.h>

#include <atomic>

namespace keystep {
namespace {

std::atomic<std::uint64_t> count = 0;
[[maybe_unused]] const int registered =
    pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

std::uint64_t forks() noexcept { return count.load(std::memory_order_relaxed); }

}  // namespace keystep
