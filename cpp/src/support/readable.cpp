#include "support/readable.hpp"

#include <cstdint>

namespace keystep {
namespace {

/// Bytes of the UTF-8 character that `text` begins with; 0: it begins with none (RFC 3629, section 4).
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<std::uint8_t>(text[i]) : 0; };
  const auto between = [&](std::size_t i, int low, int high) { return byte(i) >= low && byte(i) <= high; };
  const int lead = byte(0);
  if (lead < 0x80) return 1;
  if (between(0, 0xc2, 0xdf)) return between(1, 0x80, 0xbf) ? 2 : 0;
  if (between(0, 0xe0, 0xef)) {
    const bool second = between(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf);
    return second && between(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (!between(0, 0xf0, 0xf4)) return 0;
  const bool second = between(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf);
  return second && between(2, 0x80, 0xbf) && between(3, 0x80, 0xbf) ? 4 : 0;
}

std::string escaped(char byte) {
  constexpr const char* kDigits = "0123456789abcdef";
  const auto value = static_cast<std::uint8_t>(byte);
  return {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
}

}  // namespace

std::string readable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kCut = "...";
  std::string result;
  std::size_t fits = 0;  // of `result`, with room for kCut
  while (!text.empty()) {
    const std::size_t bytes = character(text);
    const auto first = static_cast<std::uint8_t>(text[0]);
    const bool control = bytes == 2 && first == 0xc2 && static_cast<std::uint8_t>(text[1]) < 0xa0;  // of C1
    const bool printed =
        (bytes > 1 && !control) || (bytes == 1 && ((first >= 0x20 && first != 0x7f) || first == '\n'));
    result += printed ? std::string(text.substr(0, bytes)) : escaped(text[0]);
    if (result.size() > limit) return result.substr(0, fits).append(kCut);
    if (result.size() + kCut.size() <= limit) fits = result.size();
    text.remove_prefix(printed ? bytes : 1);
  }
  return result;
}

}  // namespace keystep
