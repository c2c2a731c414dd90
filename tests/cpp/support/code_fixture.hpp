// Words and layouts of prompts for tests, and what reads and remembers by them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/code_memory.hpp"

namespace keystep::test {

inline const std::string kWords = R"json({
  "format": "keystep-words", "version": 1, "specials": ["<pad>", "<end>", "<image>", "<proprioception>"],
  "words": ["red", "cube", "cubes", "get_actor('", "')", "# ", "pick(", "done()", "pose_dict['", "'] = "]})json";

inline const std::string kPrompt = R"json({
  "format": "keystep-prompt", "version": 1, "name": "default",
  "order": ["task", "memory", "proprioception", "image", "request", "reply"],
  "question_order": ["task", "memory", "proprioception", "image", "question", "reply"],
  "templates": {"task": "{task}\n", "keystep": "{keystep}\n", "between": "",
                "proprioception": "{proprioception}", "image": "{image}",
                "request": "Please give a keystep reply\n", "question": "{question}\n",
                "reply": "{reply}{end}"}})json";

inline const std::string kPaperPrompt = R"json({
  "format": "keystep-prompt", "version": 1, "name": "paper",
  "order": ["image", "task", "memory", "request", "reply"],
  "question_order": ["image", "question", "reply"],
  "templates": {"task": "{task}\nPast actions:\n", "keystep": "{keystep}", "between": "; ",
                "proprioception": "{proprioception}", "image": "{image}\n",
                "request": "\nPlease give a keystep reply", "question": "{question}",
                "reply": "\n{reply}{end}"}})json";

/// Whatever reads and remembers, with room enough.
struct CodeBench {
  explicit CodeBench(const std::string& prompt = kPrompt, MemoryLimits limits = {},
                     const std::string& table = kWords)
      : words(read_words(table)), writer(read_prompt(prompt), words, 2, 1 << 14), memory(writer, limits) {}

  const WordTokenizer words;
  PromptWriter writer;
  CodeMemory memory;
};

inline std::vector<Token> encoded(const WordTokenizer& words, std::string_view text) {
  Bounded<Token> tokens(WordTokenizer::most_tokens(text.size()));
  CHECK(words.encode(text, tokens));
  return {tokens.view().begin(), tokens.view().end()};
}

inline std::string decoded(const WordTokenizer& words, std::span<const Token> tokens) {
  BoundedText text(tokens.size() * WordTokenizer::kMostBytes);
  CHECK(words.decode(tokens, text));
  return std::string(text.text());
}

}  // namespace keystep::test
