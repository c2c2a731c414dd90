#include "code/prompt_template.hpp"

#include <algorithm>
#include <string>

namespace keystep {
namespace {

using Kind = TemplatePart::Kind;

bool is_name(std::string_view text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
}

Kind kind_of(std::string_view slot) {
  if (slot == "image") return Kind::image;
  if (slot == "proprioception") return Kind::proprioception;
  return slot == "end" ? Kind::end : Kind::text;
}

}  // namespace

std::optional<std::vector<TemplatePart>> parse_template(std::string_view text) {
  std::vector<TemplatePart> parts;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    if (open > 0) parts.push_back({Kind::literal, std::string(text.substr(0, open))});
    if (open == text.npos) break;
    const std::size_t close = text.find('}', open);
    if (close == text.npos) return {};
    const std::string_view slot = text.substr(open + 1, close - open - 1);
    if (!is_name(slot)) return {};
    parts.push_back({kind_of(slot), std::string(slot)});
    text.remove_prefix(close + 1);
  }
  return parts;
}

}  // namespace keystep
