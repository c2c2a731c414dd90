// Text whose bytes are meant as UTF-8, and may be none.
#pragma once

#include <cstddef>
#include <string_view>

namespace keystep {

/// What a text that is not empty begins with.
struct Utf8Step {
  std::size_t bytes;  ///< of the character, or of what is none: at least 1
  bool valid;
};

/// RFC 3629, section 4. What is no character is taken as long as it could have become one, as Unicode
/// recommends (chapter 3, "U+FFFD Substitution of Maximal Subparts") and Python does.
Utf8Step utf8_step(std::string_view text) noexcept;

/// The first `count` characters of a text in UTF-8.
std::string_view first_characters(std::string_view text, std::size_t count) noexcept;

}  // namespace keystep
