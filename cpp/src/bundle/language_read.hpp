// From the manifest's JSON: the words of a planner that writes, and the layout of its prompts.
#pragma once

#include "bundle/manifest_node.hpp"
#include "keystep/prompt.hpp"
#include "keystep/word_tokenizer.hpp"

namespace keystep {

/// Both check everything. Throw BundleError.
WordTable read_words(const ManifestNode& node);
PromptSpec read_prompt(const ManifestNode& node);

}  // namespace keystep
