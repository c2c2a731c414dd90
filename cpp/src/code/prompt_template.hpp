// Templates of prompts, taken apart.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "keystep/prompt.hpp"

namespace keystep {

/// Literals and slots in a row, no literal empty; none: a brace opens what is no slot.
std::optional<std::vector<TemplatePart>> parse_template(std::string_view text);

}  // namespace keystep
