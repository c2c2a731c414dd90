#include "keystep/chunk_buffer.hpp"

#include <algorithm>

#include "keystep/status.hpp"

namespace keystep {

ChunkBuffer::ChunkBuffer(int horizon, int execute, int dim) : execute_(execute), dim_(dim) {
  if (horizon < 1) throw ArgumentError(expected("chunk.horizon", "at least 1", std::to_string(horizon)));
  if (execute < 1 || execute > horizon) {
    throw ArgumentError(expected("chunk.execute", "1.." + std::to_string(horizon), std::to_string(execute)));
  }
  if (dim < 1) throw ArgumentError(expected("action dimension", "at least 1", std::to_string(dim)));
  actions_.resize(static_cast<std::size_t>(horizon) * static_cast<std::size_t>(dim));
}

void ChunkBuffer::reset() noexcept {
  consumed_ = 0;
  filled_ = false;
}

void ChunkBuffer::drop() noexcept { filled_ = false; }

void ChunkBuffer::seek(std::int64_t consumed) noexcept {
  drop();
  consumed_ = consumed;
}

bool ChunkBuffer::needs_renewal() const noexcept { return remaining() == 0; }

int ChunkBuffer::remaining() const noexcept {
  // Never negative: `install` refuses outdated chunks, `take` stops at the last action.
  return filled_ ? static_cast<int>(start_ + execute_ - consumed_) : 0;
}

bool ChunkBuffer::install(std::int64_t start, std::span<const float> chunk) noexcept {
  const bool has_next = start <= consumed_ && start > consumed_ - execute_;  // no start overflows
  if (!has_next || chunk.size() != actions_.size()) return false;
  std::copy(chunk.begin(), chunk.end(), actions_.begin());
  start_ = start;
  filled_ = true;
  return true;
}

std::span<const float> ChunkBuffer::take() noexcept {
  if (needs_renewal()) return {};
  const auto dim = static_cast<std::size_t>(dim_);
  const auto row = static_cast<std::size_t>(consumed_ - start_);
  ++consumed_;
  return std::span<const float>(actions_).subspan(row * dim, dim);
}

}  // namespace keystep
