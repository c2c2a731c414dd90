#include "bundle/json_text.hpp"

#include <set>
#include <vector>

#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {

using nlohmann::json;

json parse_json(std::string_view text, const std::string& what) {
  constexpr int kMaxDepth = 32;
  constexpr std::size_t kReasonBytes = 240;
  const auto refuse = [&](const std::string& wanted, const std::string& got) {
    throw BundleError(expected(what, wanted, got));
  };
  if (text.starts_with("\xef\xbb\xbf")) refuse("JSON in UTF-8 without a byte order mark", "one that has it");
  // nlohmann ends at a NUL; other parsers read on, or refuse.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) refuse("valid JSON", "a NUL at byte " + std::to_string(nul));
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) refuse("at most " + std::to_string(kMaxDepth) + " levels", "more");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) refuse("each key once", "'" + readable(key) + "' twice");
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    refuse("valid JSON", readable(error.what(), kReasonBytes));
    throw;
  }
}

std::string summary(const json& value) {
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_object()) return "an object";
  return readable(value.dump(-1, ' ', true));  // ASCII, as the manifest could have it
}

}  // namespace keystep
