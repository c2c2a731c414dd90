#include "engines/native/arena.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace keystep::native {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t rounded(std::size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

Arena::Arena(std::size_t bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugePage / 2;
  const std::size_t size = huge ? rounded(bytes) : bytes;
  // One huge page more than needed, so that an aligned block lies inside; its margins are given back.
  const std::size_t mapped = huge ? size + kHugePage : size;
  void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(raw);
  if (huge) {
    const std::size_t before =
        rounded(reinterpret_cast<std::uintptr_t>(raw)) - reinterpret_cast<std::uintptr_t>(raw);
    if (before != 0) munmap(raw, before);
    begin += before;
    munmap(begin + size, mapped - before - size);
#ifdef MADV_HUGEPAGE
    madvise(begin, size, MADV_HUGEPAGE);  // without huge pages it is slower, not wrong
#endif
  }
  memory_ = {begin, Unmap{size}};
}

void Arena::Unmap::operator()(std::byte* memory) const noexcept { munmap(memory, bytes); }

}  // namespace keystep::native
