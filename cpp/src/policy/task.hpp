// What an episode is about, as the caller says it: one law for both languages.
#pragma once

#include <string>

#include "keystep/bundle.hpp"
#include "keystep/episode.hpp"

namespace keystep {

/// Throws ArgumentError naming `field` unless `text` is what an encoder takes: UTF-8 (RFC 3629) without NUL,
/// at most `max_bytes` long, and more than white space.
void check_text(const std::string& text, std::size_t max_bytes, const std::string& field);

struct Aim {
  int task = -1;       ///< index in `Bundle::tasks`; -1: none of them
  std::string text{};  ///< for the planner; empty: subgoals say it, or the policy takes no task
};

/// A task's name, a mistyped one above all, is never taken for a sentence. Throws ArgumentError.
Aim aim_of(const Bundle& bundle, const EpisodeContext& context);

/// What an episode with this aim is called: by its task's name, else its instruction; empty: neither.
std::string name_of(const Bundle& bundle, const Aim& aim);
/// Whether `told`, a task by name or instruction or else a sentence, is what the episode of this name is
/// about.
bool is_named(const Bundle& bundle, const std::string& name, const std::string& told);

}  // namespace keystep
