// What a planner's replies mean: key-steps, comments, stored poses; keystep.code.trace is the same in Python.
// Source: From Code to Action, sections 4.1 to 4.3, algorithm 1. Nothing here allocates.
#pragma once

#include <cstddef>
#include <string_view>

#include "keystep/bounded.hpp"

namespace keystep {

/// L: so many characters of the commented last key-step are enough to say that it goes on.
inline constexpr std::size_t kEarlyStopCharacters = 24;

/// Appends what a planner wrote as UTF-8, with U+FFFD for bytes that are none, as Python's decoding does.
/// False without room: then a part of it is there.
[[nodiscard]] bool append_as_utf8(std::string_view bytes, BoundedText& text) noexcept;

/// Whether a line of a reply, which is UTF-8, is neither blank nor commented out.
bool is_keystep(std::string_view reply) noexcept;
/// Whether a line stores a pose: begins to assign to a key of `pose_dict`.
bool stores_pose(std::string_view code) noexcept;

/// Appends the code with every line behind "# ". False without room: then a part of it is there.
[[nodiscard]] bool append_comment(std::string_view code, BoundedText& text) noexcept;

/// Whether a reply that begins with `reply` says that the last key-step goes on: it begins with the first
/// `characters` of `commented`, the last key-step commented out. Never without one.
bool goes_on(std::string_view reply, std::string_view commented,
             std::size_t characters = kEarlyStopCharacters) noexcept;

}  // namespace keystep
