#include "keystep/prompt.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "code/prompt_template.hpp"
#include "keystep/code_memory.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

using Kind = TemplatePart::Kind;

std::vector<TemplatePart> parts_of(const PromptSpec& spec, const char* name) {
  return *parse_template(spec.templates.at(name));
}

std::vector<TemplatePart> later_keystep(const PromptSpec& spec) {
  return *parse_template(spec.templates.at("between") + spec.templates.at("keystep"));
}

/// What stands before the reply is the prompt's.
std::vector<TemplatePart> before_reply(const PromptSpec& spec) {
  std::vector<TemplatePart> parts = parts_of(spec, "reply");
  parts.erase(std::ranges::find(parts, Kind::text, &TemplatePart::kind), parts.end());
  return parts;
}

}  // namespace

void check_line(const char* field, std::string_view text) {
  if (!text.empty() && text.find_first_of("\r\n") == text.npos) return;
  throw ArgumentError(expected(field, "one line of text", in_quotes(text)));
}

PromptWriter::PromptWriter(const PromptSpec& spec, const WordTokenizer& tokenizer, int image_tokens,
                           std::size_t max_text)
    : tokenizer_(tokenizer),
      image_tokens_(static_cast<std::size_t>(image_tokens)),
      order_(sections(spec.order)),
      question_order_(sections(spec.question_order)),
      task_(parts_of(spec, "task")),
      keystep_(parts_of(spec, "keystep")),
      later_keystep_(later_keystep(spec)),
      proprioception_(parts_of(spec, "proprioception")),
      image_(parts_of(spec, "image")),
      request_(parts_of(spec, "request")),
      question_(parts_of(spec, "question")),
      reply_(before_reply(spec)),
      scratch_(max_text),
      tokens_(WordTokenizer::most_tokens(max_text)) {}

std::vector<PromptWriter::Section> PromptWriter::sections(const std::vector<std::string>& names) {
  constexpr std::array<std::pair<std::string_view, Section>, 7> kSections = {
      {{"task", Section::task},
       {"memory", Section::memory},
       {"proprioception", Section::proprioception},
       {"image", Section::image},
       {"request", Section::request},
       {"question", Section::question},
       {"reply", Section::reply}}};
  std::vector<Section> found;
  for (const std::string& name : names) {
    found.push_back(std::ranges::find(kSections, name, &std::pair<std::string_view, Section>::first)->second);
  }
  return found;
}

bool PromptWriter::append(const Question& asked, CodeMemory& memory, std::size_t room,
                          Bounded<Token>& tokens) noexcept {
  const auto& order = asked.question.empty() ? order_ : question_order_;
  return std::ranges::all_of(order, [&](Section section) {
    return section == Section::memory ? memory.append_shown(room, tokens)
                                      : append_section(section, asked, tokens);
  });
}

std::size_t PromptWriter::keystep_literals() const noexcept {
  std::size_t bytes = 0;
  for (const TemplatePart& part : later_keystep_) {
    if (part.kind == Kind::literal) bytes += part.text.size();
  }
  return bytes;
}

bool PromptWriter::append_keystep(std::string_view code, bool first, Bounded<Token>& tokens) noexcept {
  return fill(first ? keystep_ : later_keystep_, code, tokens);
}

bool PromptWriter::append_section(Section section, const Question& asked, Bounded<Token>& tokens) noexcept {
  switch (section) {
    case Section::task:
      return fill(task_, asked.task, tokens);
    case Section::memory:
      return false;  // not one text
    case Section::proprioception:
      return !asked.proprioception || fill(proprioception_, {}, tokens);
    case Section::image:
      return !asked.image || fill(image_, {}, tokens);
    case Section::request:
      return !asked.request || fill(request_, {}, tokens);
    case Section::question:
      return asked.question.empty() || fill(question_, asked.question, tokens);
    case Section::reply:
      return fill(reply_, {}, tokens);
  }
  return false;
}

/// Text next to text is encoded as one text.
bool PromptWriter::fill(const Template& parts, std::string_view text, Bounded<Token>& tokens) noexcept {
  scratch_.clear();
  for (const TemplatePart& part : parts) {
    bool fits = true;
    if (part.kind == Kind::literal) fits = scratch_.append(part.text);
    if (part.kind == Kind::text) fits = scratch_.append(text);
    if (part.kind == Kind::proprioception)
      fits = flush(tokens) && tokens.append(WordTokenizer::kProprioception);
    if (part.kind == Kind::image) {
      fits = flush(tokens);
      for (std::size_t i = 0; i < image_tokens_ && fits; ++i) fits = tokens.append(WordTokenizer::kImage);
    }
    if (!fits) return false;
  }
  return flush(tokens);
}

bool PromptWriter::flush(Bounded<Token>& tokens) noexcept {
  tokens_.clear();  // pieces take more room before they are merged
  const bool fits = tokenizer_.encode(scratch_.text(), tokens_) && tokens.append(tokens_.view());
  scratch_.clear();
  return fits;
}

}  // namespace keystep
