// JSON from a file: bounded on the way in, and short where a message quotes it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace keystep {

/// Of at most 32 levels; a byte order mark and duplicate keys, which JSON readers take differently, are
/// refused. `what` begins every refusal. Throws BundleError.
nlohmann::json parse_json(std::string_view text, const std::string& what);

/// At most 80 bytes: a scalar as it is written, of an array or an object what it is.
std::string summary(const nlohmann::json& value);

}  // namespace keystep
