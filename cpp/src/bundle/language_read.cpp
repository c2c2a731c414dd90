#include "bundle/language_read.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "code/prompt_template.hpp"

namespace keystep {
namespace {

using Kind = TemplatePart::Kind;

void check_format(const ManifestNode& node, const char* format) {
  node["format"].text_of({format});
  node["version"].integer(1, 1);
}

// ---- words

void check_specials(const ManifestNode& node) {
  constexpr std::array<std::string_view, WordTokenizer::kSpecials> kSpecials = {"<pad>", "<end>", "<image>",
                                                                                "<proprioception>"};
  if (!std::ranges::equal(node.texts(), kSpecials)) node.refuse("<pad>, <end>, <image>, <proprioception>");
}

void check_word(const ManifestNode& node, const std::string& word) {
  const auto printable = [](char c) { return c >= 0x20 && c <= 0x7e; };
  const bool short_enough = !word.empty() && word.size() <= WordTable::kMaxEntry;
  if (!short_enough) node.refuse("text of 1 to " + std::to_string(WordTable::kMaxEntry) + " characters");
  if (!std::ranges::all_of(word, printable)) node.refuse("printable ASCII");
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const bool stands_alone = is_letter(word[0]) || (word[0] >= '0' && word[0] <= '9') || word[0] == '_';
  if (word.size() == 1 && !stands_alone) node.refuse("a letter, digit or underscore, or more");
}

void check_piece(const ManifestNode& node, const std::string& piece) {
  const bool short_enough = !piece.empty() && piece.size() <= WordTable::kMaxEntry;
  if (!short_enough) node.refuse("text of 1 to " + std::to_string(WordTable::kMaxEntry) + " bytes");
  if (piece.find("\u2581") != piece.npos) node.refuse("spaces as spaces");
}

void read_merges(const ManifestNode& node, const std::map<std::string_view, Token>& known, WordTable& table) {
  constexpr std::size_t kMostMerges = std::size_t{1} << 18;
  const std::vector<ManifestNode> pairs = node.items();
  if (pairs.size() > kMostMerges) node.refuse("at most " + std::to_string(kMostMerges) + " pairs");
  std::set<std::pair<Token, Token>> all;
  const Token last = WordTokenizer::kFirstWord + static_cast<Token>(table.words.size()) - 1;
  const auto text_of = [&](Token token) {
    return table.words[static_cast<std::size_t>(token - WordTokenizer::kFirstWord)];
  };
  for (const ManifestNode& pair : pairs) {
    const std::vector<ManifestNode> both = pair.items();
    if (both.size() != 2) pair.refuse("two numbers");
    const auto left = static_cast<Token>(both[0].integer(WordTokenizer::kFirstWord, last));
    const auto right = static_cast<Token>(both[1].integer(WordTokenizer::kFirstWord, last));
    const auto joined = known.find(text_of(left) + text_of(right));
    if (joined == known.end()) pair.refuse("two that make an entry");
    if (!all.emplace(left, right).second) pair.refuse("each pair once");
    table.merges.push_back({left, right, joined->second});
  }
}

// ---- prompts

void check_order(const ManifestNode& node, const std::vector<std::string>& order) {
  constexpr std::array<std::string_view, 7> kSections = {"task",    "memory",   "proprioception", "image",
                                                         "request", "question", "reply"};
  for (const std::string& name : order) {
    if (std::ranges::find(kSections, name) == kSections.end()) {
      node.refuse("some of task, memory, proprioception, image, request, question, reply");
    }
  }
  if (std::set(order.begin(), order.end()).size() != order.size()) node.refuse("each section once");
  if (order.empty() || order.back() != "reply") node.refuse("the reply last");
}

/// `slots`: those that the template has, each once, in order.
void check_template(const ManifestNode& node, const std::string& text, std::string_view slots) {
  std::string found;
  const auto parts = parse_template(text);
  if (parts) {
    for (const TemplatePart& part : *parts) {
      if (part.kind != Kind::literal) found += "{" + part.text + "}";
    }
  }
  if (!parts || found != slots) node.refuse(slots.empty() ? "no slot" : std::string(slots));
  const bool ends = parts->empty() || slots != "{reply}{end}" || parts->back().kind == Kind::end;
  if (!ends) node.refuse("{reply}, and {end} at its end");
}

}  // namespace

WordTable read_words(const ManifestNode& node) {
  constexpr std::size_t kMostWords = 1 << 16;
  WordTable table;
  node.check_keys({"format", "version", "specials", "words"}, {"merges"});
  table.pieces = node["format"].text_of({"keystep-words", "keystep-pieces"}) == "keystep-pieces";
  if (!table.pieces && node.contains("merges")) node["merges"].refuse("no such key (keystep-words)");
  node["version"].integer(1, 1);
  check_specials(node["specials"]);
  std::map<std::string_view, Token> known;
  const std::vector<ManifestNode> words = node["words"].items();
  if (words.size() > kMostWords) node["words"].refuse("at most " + std::to_string(kMostWords) + " words");
  table.words.reserve(words.size());  // `known` looks into them
  for (const ManifestNode& word : words) {
    table.words.push_back(word.text());
    if (table.pieces) check_piece(word, table.words.back());
    if (!table.pieces) check_word(word, table.words.back());
    const Token number = WordTokenizer::kFirstWord + static_cast<Token>(known.size());
    if (!known.emplace(table.words.back(), number).second) word.refuse("each entry once");
  }
  if (table.pieces) read_merges(node["merges"], known, table);
  return table;
}

PromptSpec read_prompt(const ManifestNode& node) {
  constexpr std::array<std::pair<const char*, std::string_view>, 8> kTemplates = {
      {{"task", "{task}"},
       {"keystep", "{keystep}"},
       {"between", ""},
       {"proprioception", "{proprioception}"},
       {"image", "{image}"},
       {"request", ""},
       {"question", "{question}"},
       {"reply", "{reply}{end}"}}};
  node.check_keys({"format", "version", "name", "order", "question_order", "templates"});
  check_format(node, "keystep-prompt");
  PromptSpec spec;
  spec.name = node["name"].text();
  if (spec.name.empty()) node["name"].refuse("text");
  spec.order = node["order"].texts();
  check_order(node["order"], spec.order);
  spec.question_order = node["question_order"].texts();
  check_order(node["question_order"], spec.question_order);
  const ManifestNode templates = node["templates"];
  templates.check_keys(
      {"task", "keystep", "between", "proprioception", "image", "request", "question", "reply"});
  for (const auto& [name, slots] : kTemplates) {
    spec.templates[name] = templates[name].text();
    check_template(templates[name], spec.templates[name], slots);
  }
  return spec;
}

WordTable read_words(const std::string& json) {
  const nlohmann::json parsed = parse_json(json, "tokenizer");
  return read_words(ManifestNode(parsed, "tokenizer"));
}

PromptSpec read_prompt(const std::string& json) {
  const nlohmann::json parsed = parse_json(json, "prompt");
  return read_prompt(ManifestNode(parsed, "prompt"));
}

}  // namespace keystep
