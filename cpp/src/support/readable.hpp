// Text from outside, on its way into a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace keystep {

inline constexpr std::size_t kQuotedBytes = 80;        ///< of a name or a value that a message quotes
inline constexpr std::size_t kMaxMessageBytes = 2000;  ///< of a whole message

/// Valid UTF-8 without control characters (but line feeds): other bytes become \xNN, and whatever is longer
/// than `limit` bytes ends in "...".
std::string readable(std::string_view text, std::size_t limit = kQuotedBytes);

}  // namespace keystep
