#include "bundle/code_read.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "bundle/api_read.hpp"
#include "bundle/bundle_read.hpp"
#include "bundle/language_read.hpp"
#include "policy/feature_kind.hpp"

namespace keystep {
namespace {

constexpr std::int64_t kMaxExtent = 65536, kMaxId = std::int64_t{1} << 24;

std::size_t read_size(const ManifestNode& node, std::int64_t low, std::int64_t high) {
  return static_cast<std::size_t>(node.integer(low, high));
}

std::string read_key(const ManifestNode& node) {
  const std::string key = node.text();
  if (!key.starts_with(kObservationPrefix) || key == kObservationPrefix) node.refuse("observation.<name>");
  return key;
}

/// By the keys of what the planner observes, and no others.
void read_normalizations(const ManifestNode& node, CodePlannerSpec& spec) {
  std::string wanted = spec.sees + (spec.feels.empty() ? "" : " and " + spec.feels), got;
  bool sees = false, feels = spec.feels.empty(), others = false;
  for (const auto& [key, entry] : node.members()) {
    const Normalization normalization = read_normalization(entry);
    got += (got.empty() ? "" : ", ") + readable(key);
    if (key == spec.sees) {
      spec.sees_normalization = normalization;
      sees = true;
    } else if (key == spec.feels) {
      spec.feels_normalization = normalization;
      feels = true;
    } else {
      others = true;
    }
  }
  if (sees && feels && !others) return;
  throw BundleError(expected(node.path(), "entries of " + wanted, got.empty() ? "none" : got));
}

/// Their numbers are the tokenizer's law.
void check_tokens(const ManifestNode& node) {
  constexpr std::array<std::pair<const char*, Token>, 4> kTokens = {
      {{"pad", WordTokenizer::kPad},
       {"end", WordTokenizer::kEnd},
       {"image", WordTokenizer::kImage},
       {"proprioception", WordTokenizer::kProprioception}}};
  node.check_keys({"pad", "end", "image", "proprioception"});
  for (const auto& [name, token] : kTokens) {
    if (node[name].integer(0, kMaxId) != token) node[name].refuse(std::to_string(token));
  }
}

/// Room for a key-step is that for the longest reply: an entry of the table and a space, or U+FFFD, a token.
MemoryLimits read_memory(const ManifestNode& node, const CodePlannerSpec& spec) {
  node.check_keys({"overflow", "keysteps"});
  MemoryLimits limits;
  const bool refuses = node["overflow"].text_of({"forget_oldest", "refuse"}) == "refuse";
  limits.overflow = refuses ? MemoryOverflow::refuse : MemoryOverflow::forget_oldest;
  limits.keysteps = read_size(node["keysteps"], 1, 4096);
  std::size_t token_bytes = 3;
  for (const std::string& word : spec.words.words) token_bytes = std::max(token_bytes, word.size() + 1);
  limits.keystep_bytes = spec.reply_tokens * token_bytes;
  return limits;
}

DecodingSpec read_decoding(const ManifestNode& node) {
  node.check_keys({"way", "early_stop", "every", "constrained"});
  return {.way = node["way"].text_of({"greedy", "early_stop", "draft"}),
          .early_stop = read_size(node["early_stop"], 1, kMaxExtent),
          .every = static_cast<int>(node["every"].integer(1, kMaxExtent)),
          .constrained = node["constrained"].boolean()};
}

void check_weights(const ManifestNode& node) {
  node.check_keys({"precision", "errors"});
  node["precision"].text_of({"fp32", "int8"});
  const ManifestNode errors = node["errors"];
  errors.check_keys({"max", "rms", "agree", "margin"});
  for (const char* name : {"max", "rms", "agree", "margin"}) {
    if (errors[name].number() < 0) errors[name].refuse("a finite number of 0 or more");
  }
  if (errors["agree"].number() > 1) errors["agree"].refuse("0..1");
}

}  // namespace

CodePlannerSpec read_code_planner(const ManifestNode& node) {
  node.check_keys({"sees",         "feels",     "normalization", "image_tokens", "width",
                   "layers",       "key_heads", "head_width",    "vocabulary",   "context",
                   "reply_tokens", "tokens",    "never",         "tokenizer",    "prompt",
                   "grid",         "api",       "memory",        "decoding",     "weights"});
  CodePlannerSpec spec;
  spec.sees = read_key(node["sees"]);
  if (!node["feels"].is_null()) spec.feels = read_key(node["feels"]);
  read_normalizations(node["normalization"], spec);
  spec.image_tokens = read_size(node["image_tokens"], 1, kMaxExtent);
  spec.width = read_size(node["width"], 1, kMaxExtent);
  spec.layers = read_size(node["layers"], 1, 1024);
  spec.key_heads = read_size(node["key_heads"], 1, kMaxExtent);
  spec.head_width = read_size(node["head_width"], 1, kMaxExtent);
  spec.vocabulary = read_size(node["vocabulary"], 1, kMaxId);
  spec.context = read_size(node["context"], 2, kMaxExtent);
  spec.reply_tokens = read_size(node["reply_tokens"], 1, 4096);
  check_tokens(node["tokens"]);
  for (const ManifestNode& token : node["never"].items()) {
    spec.never.push_back(static_cast<Token>(token.integer(0, kMaxId)));
  }
  spec.words = read_words(node["tokenizer"]);
  spec.prompt = read_prompt(node["prompt"]);
  spec.grid = static_cast<int>(node["grid"].integer(1, 100));
  spec.api = read_api(node["api"]);
  spec.memory = read_memory(node["memory"], spec);
  spec.decoding = read_decoding(node["decoding"]);
  check_weights(node["weights"]);
  return spec;
}

}  // namespace keystep
