// What a constraint costs at a token: choosing one of a row of logits, freely and as it allows.
//   constrained MANIFEST.json ROUNDS  ->  one JSON line
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "bundle/api_read.hpp"
#include "bundle/language_read.hpp"
#include "bundle/manifest_node.hpp"
#include "code/constraint.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using namespace keystep;

constexpr std::size_t kLimit = 96;

struct Times {
  double all_us = 0;
  std::size_t tokens = 0;
};

double since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// Replies over random logits; `rising`: the worst case, in which every token is tried.
Times constrained(const CodeConstraint& constraint, std::vector<float>& logits, bool rising, int rounds) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Times times;
  for (int round = 0; round < rounds; ++round) {
    CodePlace place = constraint.start();
    for (std::size_t left = kLimit; left > 0; --left) {
      for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = rising ? float(i) : normal(random);
      if (rising) logits[WordTokenizer::kSpecials + '\''] = float(logits.size());  // strings end
      const auto start = Clock::now();
      const Token token = constraint.likeliest(logits, place, left);
      const bool ended = token == WordTokenizer::kEnd || !constraint.advance(place, token);
      times.all_us += since(start);
      ++times.tokens;
      if (ended) break;
    }
  }
  return times;
}

Times plain(std::vector<float>& logits, int rounds) {
  Times times;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int round = 0; round < rounds; ++round) {
    for (float& logit : logits) logit = normal(random);
    const auto start = Clock::now();
    volatile std::ptrdiff_t best = std::ranges::max_element(logits) - logits.begin();
    (void)best;
    times.all_us += since(start);
    ++times.tokens;
  }
  return times;
}

int measure(const char* manifest, int rounds) {
  std::ifstream file(manifest);
  const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const nlohmann::json parsed = parse_json(json, "manifest.json");
  const ManifestNode planner = ManifestNode(parsed, "")["planner"];
  const WordTokenizer words(read_words(planner["tokenizer"]));
  const auto start = Clock::now();
  const CodeConstraint constraint(read_api(planner["api"]), planner["grid"].integer(1, 100), words);
  const double made_ms = since(start) / 1000;
  std::vector<float> logits(static_cast<std::size_t>(words.size()));
  const Times free = plain(logits, rounds), usual = constrained(constraint, logits, false, rounds),
              worst = constrained(constraint, logits, true, rounds);
  std::printf(
      "{\"nodes\": %zu, \"made_ms\": %.1f, \"plain_us\": %.2f, \"constrained_us\": %.2f, \"rising_us\": "
      "%.2f, "
      "\"tokens\": %zu}\n",
      constraint.nodes(), made_ms, free.all_us / double(free.tokens), usual.all_us / double(usual.tokens),
      worst.all_us / double(worst.tokens), usual.tokens + worst.tokens);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "constrained MANIFEST.json ROUNDS\n"), 2;
  try {
    return measure(argv[1], std::atoi(argv[2]));
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
