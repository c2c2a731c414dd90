// A planner that sees a feature, reads its memory, and writes code, as the manifest of family code has it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "keystep/code_api.hpp"
#include "keystep/code_memory.hpp"
#include "keystep/code_text.hpp"
#include "keystep/normalization.hpp"
#include "keystep/prompt.hpp"
#include "keystep/word_tokenizer.hpp"

namespace keystep {

/// How a reply is written. The text is that of greedy decoding, but for early stops: these take another
/// reply that begins with the same characters for the last key-step.
struct DecodingSpec {
  std::string way = "draft";  ///< greedy | early_stop | draft
  std::size_t early_stop = kEarlyStopCharacters;
  int every = 1;             ///< control steps between two questions
  bool constrained = false;  ///< replies are code of the manifest's functions, nothing else
};

struct CodePlannerSpec {
  std::string sees{}, feels{};  ///< keys of features: a picture or objects; a vector that is one token, or ""
  Normalization sees_normalization{}, feels_normalization{};
  std::size_t image_tokens = 0;                           ///< positions of what is seen
  std::size_t width = 0;                                  ///< of a token's vector
  std::size_t layers = 0, key_heads = 0, head_width = 0;  ///< of the decoder, whose cache they make
  std::size_t vocabulary = 0;                             ///< of logits, at least the tokenizer's
  std::size_t context = 0;                                ///< positions of the cache
  std::size_t reply_tokens = 0;                           ///< most of a reply, its end included
  std::vector<Token> never{};                             ///< what is not written: no text, and not the end
  WordTable words{};
  PromptSpec prompt{};
  MemoryLimits memory{};
  DecodingSpec decoding{};
  int grid = 0;  ///< cells of a side of the picture, in code
  CodeApi api{};
};

}  // namespace keystep
