#include "support/utf8.hpp"

#include <cstdint>

namespace keystep {
namespace {

struct Range {
  std::uint8_t low, high;
};

/// How many bytes follow a leading byte, and where the first of them must lie; none: it leads nothing.
struct Lead {
  std::size_t more;
  Range second;
};

constexpr Lead lead_of(std::uint8_t byte) noexcept {
  constexpr Range kAny = {0x80, 0xbf}, kNone = {1, 0};
  if (byte >= 0xc2 && byte <= 0xdf) return {1, kAny};
  if (byte == 0xe0) return {2, {0xa0, 0xbf}};
  if (byte == 0xed) return {2, {0x80, 0x9f}};
  if (byte >= 0xe1 && byte <= 0xef) return {2, kAny};
  if (byte == 0xf0) return {3, {0x90, 0xbf}};
  if (byte == 0xf4) return {3, {0x80, 0x8f}};
  if (byte >= 0xf1 && byte <= 0xf3) return {3, kAny};
  return {0, kNone};
}

}  // namespace

Utf8Step utf8_step(std::string_view text) noexcept {
  const auto first = static_cast<std::uint8_t>(text[0]);
  if (first < 0x80) return {1, true};
  const Lead lead = lead_of(first);
  std::size_t bytes = 1;
  for (Range wanted = lead.second; bytes <= lead.more && bytes < text.size(); ++bytes) {
    const auto byte = static_cast<std::uint8_t>(text[bytes]);
    if (byte < wanted.low || byte > wanted.high) return {bytes, false};
    wanted = {0x80, 0xbf};
  }
  return {bytes, lead.more > 0 && bytes == lead.more + 1};
}

std::string_view first_characters(std::string_view text, std::size_t count) noexcept {
  std::size_t bytes = 0;
  for (; count > 0 && bytes < text.size(); --count) bytes += utf8_step(text.substr(bytes)).bytes;
  return text.substr(0, bytes);
}

}  // namespace keystep
