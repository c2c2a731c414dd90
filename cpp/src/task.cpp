#include "task.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <string_view>

#include "keystep/status.hpp"

namespace keystep {
namespace {

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 0;  ///< 0: not UTF-8
};

/// The first character of a text that is not empty (RFC 3629: no overlong forms, no surrogates, no more than
/// U+10FFFF).
Character decode(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (lead < 0xC0 || lead > 0xF7 || text.size() < bytes) return {};
  std::uint32_t code = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[bytes] || code > 0x10FFFF || surrogate) return {};
  return {code, bytes};
}

/// Unicode's White_Space.
bool is_space(std::uint32_t code) noexcept {
  return code == 0x20 || (code >= 0x09 && code <= 0x0D) || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

}  // namespace

void check_text(const std::string& text, std::size_t max_bytes, const std::string& field) {
  const auto refuse = [&](const std::string& wanted, const std::string& got) {
    throw ArgumentError(expected(field, wanted, got));
  };
  if (text.empty()) refuse("a task or an instruction", "none");
  if (text.size() > max_bytes) {
    refuse("at most " + std::to_string(max_bytes) + " bytes", std::to_string(text.size()));
  }
  bool blank = true;
  for (std::size_t i = 0; i < text.size();) {
    const Character character = decode(std::string_view(text).substr(i));
    if (character.bytes == 0) {
      std::array<char, 8> byte{};
      std::snprintf(byte.data(), byte.size(), "0x%02X", static_cast<unsigned char>(text[i]));
      refuse("UTF-8", std::string("the byte ") + byte.data() + " at " + std::to_string(i));
    }
    if (character.code == 0) refuse("text", "a NUL at " + std::to_string(i));
    blank = blank && is_space(character.code);
    i += character.bytes;
  }
  if (blank) refuse("a task or an instruction", "white space only");
}

int task_index(const Bundle& bundle, const std::string& task) {
  constexpr std::size_t kShown = 20;
  const auto& inputs = observing_graph(bundle).inputs;
  const bool needed = std::any_of(inputs.begin(), inputs.end(),
                                  [](const TensorSpec& tensor) { return tensor.role == "task"; });
  if (task.empty() && !needed) return 0;
  std::string known;
  for (std::size_t i = 0; i < bundle.tasks.size(); ++i) {
    const TaskSpec& spec = bundle.tasks[i];
    if (!task.empty() && (task == spec.name || task == spec.instruction)) return static_cast<int>(i);
    if (i < kShown) known += (i ? ", " : "") + spec.name;
  }
  if (bundle.tasks.size() > kShown) known += " and " + std::to_string(bundle.tasks.size() - kShown) + " more";
  throw ArgumentError(expected("task", known.empty() ? "none (the policy has no tasks)" : "one of " + known,
                               task.empty() ? "none" : "'" + task + "'"));
}

std::string instruction_of(const Bundle& bundle, const std::string& task) {
  std::string text = task;
  for (const TaskSpec& known : bundle.tasks) {
    if (!task.empty() && task == known.name) text = known.instruction;
  }
  check_text(text, bundle.planner->max_text_bytes, "task");
  return text;
}

}  // namespace keystep
