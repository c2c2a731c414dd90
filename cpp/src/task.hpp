// The task of an episode, as the caller names it.
#pragma once

#include <string>

#include "keystep/bundle.hpp"

namespace keystep {

/// Throws ArgumentError naming `field` unless `text` is what an encoder takes: UTF-8 (RFC 3629) without NUL,
/// at most `max_bytes` long, and more than white space.
void check_text(const std::string& text, std::size_t max_bytes, const std::string& field);

/// Flat: index of a task by name or instruction; 0 where the policy takes none and none is given. Throws
/// ArgumentError.
int task_index(const Bundle& bundle, const std::string& task);

/// Subgoal: the instruction of the task with this name; anything else is itself the instruction. Throws
/// ArgumentError, see `check_text`.
std::string instruction_of(const Bundle& bundle, const std::string& task);

}  // namespace keystep
