// The words of a text graph, read out of ONNX files written by hand.
#include <string>
#include <vector>

#include "check.hpp"
#include "keystep/status.hpp"
#include "policy/vocabulary.hpp"

using namespace keystep;

namespace {

/// A length-delimited field of a protobuf message.
std::string field(int number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (std::size_t left = bytes.size(); left >= 0x80 || out.size() == 1; left >>= 7) {
    if (left < 0x80) return out + static_cast<char>(left) + bytes;
    out += static_cast<char>((left & 0x7F) | 0x80);
    if (left >> 7 < 0x80) return out + static_cast<char>(left >> 7) + bytes;
  }
  return out + bytes;
}

std::string node(const std::string& kind, const std::string& attribute, int number,
                 const std::vector<std::string>& values) {
  std::string body = field(1, attribute);
  for (const std::string& value : values) body += field(number, value);
  return field(1, field(4, kind) + field(5, body));
}

std::string model(const std::string& letters = "LOWER", const std::string& word = "[a-z0-9]+") {
  return field(7, node("StringNormalizer", "case_change_action", 4, {letters}) +
                      node("Tokenizer", "tokenexp", 4, {word}) +
                      node("LabelEncoder", "keys_strings", 9, {"lift", "the", "red", "block"}));
}

void doubts_what_is_mostly_unknown() {
  const Vocabulary words(model());
  CHECK(words.doubt("LIFT, the red Block!").empty());
  CHECK(words.doubt("lift it").empty());  // half of it
  CHECK(words.doubt("grab a red thing") ==
        "instruction: expected words of which the text encoder knows at least half, got 3 of 4 unknown: "
        "'grab', "
        "'a', 'thing'");
  CHECK(words.doubt("lift_redd").empty() && !words.doubt("lft_redd").empty());
  for (const char* none : {"!?", "\u8d64\u3044\u30d6\u30ed\u30c3\u30af", ""}) {
    CHECK(words.doubt(none).ends_with(", got none"));
  }
  CHECK(words.doubt("a b c d e f g h").ends_with("8 of 8 unknown: 'a', 'b', 'c', 'd', 'e', .."));
}

void knows_nothing_of_other_tokenisers() {
  for (const std::string& other :
       {model("UPPER"), model("LOWER", "[a-z]+"), std::string(), std::string("no ONNX")}) {
    CHECK(Vocabulary(other).doubt("grab").empty());
  }
}

/// Cut short or spoiled anywhere: the engine refuses such a file, this must only survive it.
void survives_damaged_files() {
  const std::string whole = model();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    Vocabulary(std::string_view(whole).substr(0, i)).doubt("grab");
    for (const char byte : {'\x00', '\x7f', '\xff'}) {
      std::string spoiled = whole;
      spoiled[i] = byte;
      Vocabulary(spoiled).doubt("grab");
    }
  }
}

void suggests_the_nearest() {
  const std::vector<std::string> known = {"lift_red", "push_red_left", "stack"};
  CHECK(nearest("lift_redd", known) == " (nearest: 'lift_red')");
  CHECK(nearest("PUSH_RED_LEFT", known) == " (nearest: 'push_red_left')");
  CHECK(nearest("stakc", known) == " (nearest: 'stack')");
  CHECK(nearest("pour", known).empty() && nearest("", known).empty() && nearest("stack", {}).empty());
  CHECK(nearest(std::string(1'000'000, 'x'), known).empty());
  CHECK(in_quotes("a") == "'a'" && in_quotes("") == "''");
  const std::string cut = in_quotes(std::string(99, 'a') + "\u20ac");  // not within a character
  CHECK(cut == "'" + std::string(99, 'a') + "..'");
}

}  // namespace

int main() {
  doubts_what_is_mostly_unknown();
  knows_nothing_of_other_tokenisers();
  survives_damaged_files();
  suggests_the_nearest();
}
