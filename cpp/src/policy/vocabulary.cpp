#include "policy/vocabulary.hpp"

#include <cstdint>
#include <optional>
#include <vector>

#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::string_view kWord = "[a-z0-9]+";

/// The fields of a protobuf message, one after the other; it ends early where the bytes are no message.
class Fields {
 public:
  struct Field {
    std::uint64_t number = 0;
    std::string_view bytes{};  ///< empty unless length-delimited
  };

  explicit Fields(std::string_view message) : rest_(message) {}

  std::optional<Field> next() {
    enum WireType : std::uint8_t { kVarint, kFixed64, kDelimited, kFixed32 = 5 };
    std::uint64_t tag = 0, value = 0;
    if (rest_.empty() || !varint(tag)) return {};
    Field field{tag >> 3};
    switch (tag & 7) {
      case kVarint:
        if (!varint(value)) return {};
        return field;
      case kFixed64:
        return skip(8) ? std::optional(field) : std::nullopt;
      case kFixed32:
        return skip(4) ? std::optional(field) : std::nullopt;
      case kDelimited:
        if (!varint(value) || value > rest_.size()) return {};
        field.bytes = rest_.substr(0, value);
        rest_.remove_prefix(value);
        return field;
      default:
        return {};
    }
  }

 private:
  bool varint(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool skip(std::size_t bytes) {
    if (rest_.size() < bytes) return false;
    rest_.remove_prefix(bytes);
    return true;
  }

  std::string_view rest_;
};

/// What there is of an ONNX node: NodeProto and AttributeProto of onnx.proto.
struct Node {
  std::string_view kind;                  // op_type = 4
  std::string_view text;                  // of the attribute asked for: s = 4
  std::vector<std::string_view> strings;  // likewise: strings = 9
};

Node read_node(std::string_view message, std::string_view wanted) {
  Node node;
  Fields fields(message);
  while (const auto field = fields.next()) {
    if (field->number == 4) node.kind = field->bytes;
    if (field->number != 5) continue;
    Node found;
    std::string_view name;
    Fields attribute(field->bytes);
    while (const auto part = attribute.next()) {
      if (part->number == 1) name = part->bytes;
      if (part->number == 4) found.text = part->bytes;
      if (part->number == 9) found.strings.push_back(part->bytes);
    }
    if (name == wanted) node.text = found.text, node.strings = found.strings;
  }
  return node;
}

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/// Runs of ASCII letters and digits, in lower case.
std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (is_letter(c) && !inside) words.emplace_back();
    inside = is_letter(c);
    if (inside) words.back() += c;
  }
  return words;
}

}  // namespace

Vocabulary::Vocabulary(std::string_view onnx_model) {
  bool lower = false, split = false;
  Fields model(onnx_model);
  while (const auto graph = model.next()) {
    if (graph->number != 7) continue;  // ModelProto.graph
    Fields parts(graph->bytes);
    while (const auto part = parts.next()) {
      if (part->number != 1) continue;  // GraphProto.node
      lower |= read_node(part->bytes, "case_change_action").text == "LOWER";
      split |= read_node(part->bytes, "tokenexp").text == kWord;
      const Node table = read_node(part->bytes, "keys_strings");
      if (table.kind != "LabelEncoder") continue;
      for (const std::string_view word : table.strings) words_.emplace(word);
    }
  }
  if (!lower || !split) words_.clear();
}

std::string Vocabulary::doubt(std::string_view text) const {
  constexpr std::size_t kShown = 5;
  if (words_.empty()) return "";
  const std::vector<std::string> words = split_words(text);
  std::size_t unknown = 0;
  std::string shown;
  for (const std::string& word : words) {
    if (words_.contains(word)) continue;
    if (unknown++ < kShown) shown += (shown.empty() ? "" : ", ") + in_quotes(word);
  }
  if (!words.empty() && 2 * unknown <= words.size()) return "";
  const std::string got = words.empty() ? "none"
                                        : std::to_string(unknown) + " of " + std::to_string(words.size()) +
                                              " unknown: " + shown + (unknown > kShown ? ", .." : "");
  return expected("instruction", "words of which the text encoder knows at least half", got);
}

}  // namespace keystep
