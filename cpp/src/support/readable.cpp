#include "support/readable.hpp"

#include <cstdint>

#include "support/utf8.hpp"

namespace keystep {
namespace {

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
    const Utf8Step step = utf8_step(text);
    const std::size_t bytes = step.valid ? step.bytes : 0;
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
