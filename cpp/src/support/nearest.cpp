#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>
#include <vector>

#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::size_t kLongest = 100;  // bytes of a word that may be a slip, and of one quoted whole

bool same_letter(char a, char b) noexcept {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

/// Edit distance (Levenshtein), row by row.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + !same_letter(a[i], b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> known) {
  const std::string* best = nullptr;
  std::size_t least = word.size() > kLongest ? 0 : word.size() / 2 + 1;  // at least half of it is right
  for (const std::string& candidate : known) {
    if (candidate.size() > kLongest) continue;
    if (const std::size_t edits = distance(word, candidate); edits < least) {
      least = edits;
      best = &candidate;
    }
  }
  return best ? " (nearest: '" + *best + "')" : "";
}

std::string in_quotes(std::string_view text) {
  std::size_t end = std::min(text.size(), kLongest);
  const auto continues = [&] { return end < text.size() && (text[end] & 0xC0) == 0x80; };
  while (end > 0 && continues()) --end;  // not within a character of UTF-8
  return "'" + std::string(text.substr(0, end)) + (end < text.size() ? "..'" : "'");
}

}  // namespace keystep
