// Prompts of a planner that writes, laid out by data, as docs/tokenizer.md specifies; keystep.code.prompt is
// the same in Python.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "keystep/bounded.hpp"
#include "keystep/word_tokenizer.hpp"

namespace keystep {

/// Which sections a prompt has, in which order, with which words. Templates by name: `{slot}` is replaced.
struct PromptSpec {
  std::string name;
  std::vector<std::string> order, question_order;  ///< of a prompt, of one with an auxiliary question
  std::map<std::string, std::string> templates;
};

/// What `PromptLayout.to_dict` of Python wrote, as JSON. Throws BundleError.
PromptSpec read_prompt(const std::string& json);

/// What is asked, apart from the memory. It borrows its texts.
struct Question {
  std::string_view task{};      ///< one line, not empty
  std::string_view question{};  ///< an auxiliary one, likewise; empty: what to do
  bool request = false;         ///< asks for a key-step
  bool image = true, proprioception = true;
};

/// One line of text that is not empty. Throws ArgumentError, which names the field.
void check_line(const char* field, std::string_view text);

class CodeMemory;

/// A piece of a template: a literal, a slot for text, or what is no text.
struct TemplatePart {
  enum class Kind { literal, text, image, proprioception, end };
  Kind kind = Kind::literal;
  std::string text{};  ///< the literal, or the slot's name
};

/// Renders prompts into tokens; nothing is allocated after construction. Of one session: it has a scratch.
class PromptWriter {
 public:
  /// `image_tokens`: positions of a picture. `max_text`: bytes of the longest section of text, its literals
  /// included. The tokenizer outlives it.
  PromptWriter(const PromptSpec& spec, const WordTokenizer& tokenizer, int image_tokens,
               std::size_t max_text);

  /// Appends the prompt up to where the reply begins, with at most `room` tokens of the memory. False where
  /// the memory does, without room, or for a text that is too long: then a part of it is there.
  [[nodiscard]] bool append(const Question& asked, CodeMemory& memory, std::size_t room,
                            Bounded<Token>& tokens) noexcept;
  /// Appends a key-step of a memory, which is the first or not. False likewise.
  [[nodiscard]] bool append_keystep(std::string_view code, bool first, Bounded<Token>& tokens) noexcept;
  /// Bytes that a prompt has beside the text of a key-step.
  std::size_t keystep_literals() const noexcept;

 private:
  using Template = std::vector<TemplatePart>;
  enum class Section { task, memory, proprioception, image, request, question, reply };

  bool append_section(Section section, const Question& asked, Bounded<Token>& tokens) noexcept;
  bool fill(const Template& parts, std::string_view text, Bounded<Token>& tokens) noexcept;
  bool flush(Bounded<Token>& tokens) noexcept;
  static std::vector<Section> sections(const std::vector<std::string>& names);

  const WordTokenizer& tokenizer_;
  const std::size_t image_tokens_;
  std::vector<Section> order_, question_order_;
  Template task_, keystep_, later_keystep_, proprioception_, image_, request_, question_,
      reply_;  // up to {reply}
  BoundedText scratch_;
  Bounded<Token> tokens_;  // of the scratch
};

}  // namespace keystep
