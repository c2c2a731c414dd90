#include "policy/task.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

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

namespace {

/// Of the task with this name or instruction, -1 if there is none.
int index_of(const Bundle& bundle, const std::string& told) {
  const auto found = std::ranges::find_if(
      bundle.tasks, [&](const TaskSpec& task) { return told == task.name || told == task.instruction; });
  return found == bundle.tasks.end() ? -1 : static_cast<int>(found - bundle.tasks.begin());
}

}  // namespace

int find_task(const Bundle& bundle, const std::string& task) {
  if (const int known = index_of(bundle, task); known >= 0) return known;
  constexpr std::size_t kShown = 20;
  std::vector<std::string> names;
  for (const TaskSpec& known : bundle.tasks) names.push_back(known.name);
  std::string wanted = bundle.tasks.empty() ? "none (the policy has no tasks)" : "one of ";
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) wanted += (i ? ", " : "") + names[i];
  if (names.size() > kShown) wanted += " and " + std::to_string(names.size() - kShown) + " more";
  if (bundle.planner) wanted += " (a sentence is given as instruction)";
  throw ArgumentError(
      expected("task", wanted, task.empty() ? "none" : in_quotes(task) + nearest(task, names)));
}

bool needs_task(const Bundle& bundle) {
  return bundle.planner || std::ranges::any_of(observing_graph(bundle).inputs, [](const TensorSpec& tensor) {
           return tensor.role == "task";
         });
}

namespace {

/// Of the task with this instruction, -1 if there is none.
int index_of_instruction(const Bundle& bundle, const std::string& instruction) {
  const auto found = std::ranges::find(bundle.tasks, instruction, &TaskSpec::instruction);
  return found == bundle.tasks.end() ? -1 : static_cast<int>(found - bundle.tasks.begin());
}

[[noreturn]] void refuse_instruction(const Bundle& bundle, const std::string& instruction) {
  std::vector<std::string> known;
  for (const TaskSpec& task : bundle.tasks) known.push_back(task.instruction);
  throw ArgumentError(expected("instruction", "that of a task, word for word (the policy has no planner)",
                               in_quotes(instruction) + nearest(instruction, known)));
}

}  // namespace

Aim aim_of(const Bundle& bundle, const EpisodeContext& context) {
  const std::string &task = context.task, &instruction = context.instruction;
  if (!task.empty() && !instruction.empty()) {
    throw ArgumentError(expected("instruction", "none beside a task", in_quotes(instruction)));
  }
  Aim aim;
  if (!instruction.empty()) {
    if (bundle.planner) check_text(instruction, bundle.planner->max_text_bytes, "instruction");
    aim.task = index_of_instruction(bundle, instruction);
    if (aim.task < 0 && !bundle.planner) refuse_instruction(bundle, instruction);
    aim.text = instruction;
  } else if (!task.empty() || (!bundle.planner && needs_task(bundle))) {
    aim.task = find_task(bundle, task);
    aim.text = bundle.tasks[static_cast<std::size_t>(aim.task)].instruction;
  } else if (bundle.planner && context.subgoals.empty()) {
    throw ArgumentError(expected("task", "a task or an instruction", "none"));
  }
  return aim;
}

std::string name_of(const Bundle& bundle, const Aim& aim) {
  return aim.task < 0 ? aim.text : bundle.tasks[static_cast<std::size_t>(aim.task)].name;
}

bool is_named(const Bundle& bundle, const std::string& name, const std::string& told) {
  if (told == name) return true;
  const int known = index_of(bundle, told);
  return known >= 0 && bundle.tasks[static_cast<std::size_t>(known)].name == name;
}

}  // namespace keystep
