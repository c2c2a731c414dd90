// What the elements of a tensor or a feature are.
#pragma once

#include <cstddef>

namespace keystep {

enum class DType { float32, int64, uint8, string };
const char* name(DType dtype) noexcept;
/// Bytes of one element; of a string, those of the `std::string` that a Tensor holds.
std::size_t size_of(DType dtype) noexcept;

}  // namespace keystep
