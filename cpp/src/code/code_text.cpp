#include "keystep/code_text.hpp"

#include <cstdint>
#include <utility>

#include "support/utf8.hpp"

namespace keystep {
namespace {

/// The first line, which is taken away with its end.
std::string_view take_line(std::string_view& text) noexcept {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text = end == text.npos ? std::string_view() : text.substr(end + 1);
  return line;
}

/// The character that a text in UTF-8 begins with.
std::uint32_t code_point(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(text[i]));
  };
  const std::size_t bytes = utf8_step(text).bytes;
  std::uint32_t value = bytes == 1 ? byte(0) : byte(0) & (0xffu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) value = value << 6 | (byte(i) & 0x3fu);
  return value;
}

/// What Python's `str.isspace` has for white: bidirectional type WS, B or S, or category Zs.
bool is_white(std::uint32_t c) noexcept {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view without_leading_white(std::string_view line) noexcept {
  while (!line.empty() && is_white(code_point(line))) line.remove_prefix(utf8_step(line).bytes);
  return line;
}

void skip_spaces(std::string_view& line) noexcept {
  while (line.starts_with(' ')) line.remove_prefix(1);
}

bool take(std::string_view& line, std::string_view wanted) noexcept {
  if (!line.starts_with(wanted)) return false;
  line.remove_prefix(wanted.size());
  return true;
}

/// A string without line breaks, which a line does not have, in either kind of quotes.
bool take_string(std::string_view& line) noexcept {
  if (!line.starts_with('\'') && !line.starts_with('"')) return false;
  const std::size_t end = line.find(line.front(), 1);
  if (end == line.npos) return false;
  line.remove_prefix(end + 1);
  return true;
}

/// As keystep.code.grammar.POSE_ASSIGNMENT, of one line.
bool is_pose_assignment(std::string_view line) noexcept {
  if (!take(line, "pose_dict")) return false;
  skip_spaces(line);
  if (!take(line, "[")) return false;
  skip_spaces(line);
  if (!take_string(line)) return false;
  skip_spaces(line);
  if (!take(line, "]")) return false;
  skip_spaces(line);
  return take(line, "=") && !line.starts_with('=');
}

}  // namespace

bool append_as_utf8(std::string_view bytes, BoundedText& text) noexcept {
  while (!bytes.empty()) {
    const Utf8Step step = utf8_step(bytes);
    if (!text.append(step.valid ? bytes.substr(0, step.bytes) : std::string_view("\xef\xbf\xbd")))
      return false;
    bytes.remove_prefix(step.bytes);
  }
  return true;
}

bool is_keystep(std::string_view reply) noexcept {
  while (!reply.empty()) {
    const std::string_view line = without_leading_white(take_line(reply));
    if (!line.empty() && line.front() != '#') return true;
  }
  return false;
}

bool stores_pose(std::string_view code) noexcept {
  while (!code.empty()) {
    if (is_pose_assignment(take_line(code))) return true;
  }
  return false;
}

bool append_comment(std::string_view code, BoundedText& text) noexcept {
  constexpr std::string_view kMark = "# ";
  if (!text.append(kMark)) return false;
  for (const char& c : code) {
    if (!text.append(c) || (c == '\n' && !text.append(kMark))) return false;
  }
  return true;
}

bool goes_on(std::string_view reply, std::string_view commented, std::size_t characters) noexcept {
  return !commented.empty() && reply.starts_with(first_characters(commented, characters));
}

}  // namespace keystep
