// What this CPU can do, and the kernels that follow from it.
#pragma once

#include <optional>
#include <string>

#include "engines/native/kernels.hpp"

namespace keystep::native {

const char* name(Isa isa) noexcept;
const char* name(Precision precision) noexcept;

/// Throws ArgumentError: expected fp32 | bf16 | int8.
Precision precision_named(const std::string& text);
/// None for an empty text. Throws ArgumentError: an unknown name, or one this CPU lacks.
std::optional<Isa> isa_named(const std::string& text);
bool supported(Isa isa) noexcept;

/// The fastest kernels for `precision` within `isa` (and what it contains); none: within all this CPU has.
const Kernels& kernels_for(std::optional<Isa> isa, Precision precision);

}  // namespace keystep::native
