// What a planner that writes reads and remembers: tokens, prompts, memory, key-steps. That Python's twin says
// the same is tests/parity/test_code_text.py's to show.
#include <algorithm>
#include <string>
#include <vector>

#include "check.hpp"
#include "code_fixture.hpp"
#include "keystep/code_memory.hpp"
#include "keystep/code_text.hpp"
#include "keystep/status.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void tokens_are_as_specified() {
  const WordTokenizer words(read_words(kWords));
  const auto first = WordTokenizer::kFirstWord;
  const auto byte = [](char c) { return WordTokenizer::kSpecials + Token{static_cast<std::uint8_t>(c)}; };
  CHECK(encoded(words, "red cube") == (std::vector<Token>{first, first + 1}));
  CHECK(encoded(words, "red  cube") == (std::vector<Token>{first, byte(' '), byte(' '), first + 1}));
  CHECK(encoded(words, "redo") == (std::vector<Token>{byte('r'), byte('e'), byte('d'), byte('o')}));
  CHECK(encoded(words, "get_actor('red')") == (std::vector<Token>{first + 3, first, first + 4}));
  CHECK(encoded(words, " red") == (std::vector<Token>{byte(' '), first}));
  CHECK(encoded(words, "").empty());
  CHECK(encoded(words, "<end>").size() == 5);  // no text is special
  CHECK(!words.is_text(WordTokenizer::kEnd) && !words.is_text(words.size()) && !words.is_text(-1));
  BoundedText text(100);
  for (const Token bad : {WordTokenizer::kEnd, words.size(), -7}) {
    CHECK(!words.decode(WordTokenizer::kNone, bad, text) && text.empty());
  }
}

void what_has_no_room_is_not_there() {
  const WordTokenizer words(read_words(kWords));
  Bounded<Token> tokens(2);
  CHECK(words.encode("red cube", tokens) && !words.encode("red", tokens) && tokens.size() == 2);
  BoundedText text(7);  // "red" fits, " cube" does not
  CHECK(words.decode(WordTokenizer::kNone, tokens[0], text) && !words.decode(tokens[0], tokens[1], text));
  CHECK(text.text() == "red");
}

void bad_tables_name_the_field() {
  const auto refuses = [](const std::string& changed, const char* problem) {
    CHECK_THROWS(BundleError, problem, read_words(changed));
  };
  refuses("[]", "tokenizer: expected an object");
  refuses(replaced(kWords, "\"red\"", "\"\""), "words[0]: expected text of 1 to 64 characters, got \"\"");
  refuses(replaced(kWords, "\"red\"", '"' + std::string(65, 'a') + '"'),
          "words[0]: expected text of 1 to 64");
  refuses(replaced(kWords, "\"red\"", "\"a\\n\""), "words[0]: expected printable ASCII");
  refuses(replaced(kWords, "\"red\"", "\"\xc3\xa9\""), "words[0]: expected printable ASCII");
  refuses(replaced(kWords, "\"red\"", "\" \""), "words[0]: expected a letter, digit or underscore");
  refuses(replaced(kWords, "\"red\"", "\"cube\""), "words[1]: expected each entry once, got \"cube\"");
  refuses(replaced(kWords, "\"red\"", "5"), "words[0]: expected a string, got 5");
  refuses(replaced(kWords, "<end>", "<stop>"), "specials: expected <pad>, <end>");
  refuses(replaced(kWords, "keystep-words", "words"),
          "format: expected keystep-words | keystep-pieces, got \"words\"");
  refuses(replaced(kWords, "\"version\": 1", "\"version\": 2"),
          "version: expected an integer in 1..1, got 2");
}

/// Pieces of a long text: if each merge looked at all of it, this would not end.
void long_texts_are_merged_stretch_by_stretch() {
  const WordTokenizer pieces(read_words(R"json({
    "format": "keystep-pieces", "version": 1, "specials": ["<pad>", "<end>", "<image>", "<proprioception>"],
    "words": [" ", "a", "b", "\u00e9", "ab", "b\u00e9", " ab", "  ", "a\u2603", "\u2603a"],
    "merges": [[260, 260], [261, 262], [260, 264], [262, 263]]})json"));
  const Token space = WordTokenizer::kFirstWord, byte = WordTokenizer::kSpecials;
  const auto of = [&](std::string_view text) { return encoded(pieces, text); };
  CHECK(of("ab b\xc3\xa9") == (std::vector<Token>{space + 6, space, space + 5}));
  CHECK(of("abb\xc3\xa9") == (std::vector<Token>{space + 6, space + 5}));
  CHECK(of("a\xe2\x98\x83") ==
        (std::vector<Token>{space, space + 1, byte + 0xe2, byte + 0x98, byte + 0x83}));  // no pair makes it
  CHECK(of("b\xc3") == (std::vector<Token>{space, space + 2, byte + 0xc3}));
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "ab b\xc3\xa9 ";
  const std::vector<Token> tokens = of(text);
  CHECK(tokens.size() == 300001 && decoded(pieces, tokens) == text && tokens.back() == space);
  CHECK(std::ranges::count(tokens, space + 6) == 100000 && std::ranges::count(tokens, space + 5) == 100000);
}

void bad_layouts_name_the_field() {
  const auto refuses = [](const std::string& what, const std::string& with, const char* problem) {
    CHECK_THROWS(BundleError, problem, read_prompt(replaced(kPrompt, what, with)));
  };
  refuses("\"request\", \"reply\"]", "\"request\"]", "order: expected the reply last");
  refuses("[\"task\", \"memory\"", "[\"task\", \"task\"", "order: expected each section once");
  refuses("\"memory\"", "\"colour\"", "order: expected some of task, memory");
  refuses("\"{task}", "\"{tusk}", "templates.task: expected {task}");
  refuses("\"{task}", "\"{task}{task}", "templates.task: expected {task}");
  refuses("\"{task}", "\"{task} {", "templates.task: expected {task}");
  refuses("\"between\": \"\"", "\"between\": \"{image}\"", "templates.between: expected no slot");
  refuses("{reply}{end}", "{end}{reply}", "templates.reply: expected {reply}{end}");
  refuses("{reply}{end}", "{reply}{end}.", "templates.reply: expected {reply}, and {end} at its end");
  refuses("\"name\": \"default\"", "\"name\": \"\"", "name: expected text");
}

/// Tokens with specials in brackets.
std::string shown(const WordTokenizer& words, std::span<const Token> tokens) {
  std::string text;
  BoundedText piece(1 << 12);
  Token before = WordTokenizer::kNone;
  for (const Token token : tokens) {
    piece.clear();
    if (words.is_text(token)) {
      CHECK(words.decode(before, token, piece));
      text += piece.text();
    } else {
      text += token == WordTokenizer::kImage ? "<image>" : "<proprioception>";
    }
    before = token;
  }
  return text;
}

std::string prompt_of(CodeBench& bench, const Question& asked, std::size_t room = 1000) {
  Bounded<Token> tokens(2000);
  CHECK(bench.writer.append(asked, bench.memory, room, tokens));
  return shown(bench.words, tokens.view());
}

void prompts_follow_the_layout() {
  CodeBench bench;
  CHECK(prompt_of(bench, {.task = "red cube"}) == "red cube\n<proprioception><image><image>");
  CHECK(bench.memory.remember("pick(a)") && bench.memory.remember("done()"));
  CHECK(prompt_of(bench, {.task = "a", .request = true, .proprioception = false}) ==
        "a\npick(a)\ndone()\n<image><image>Please give a keystep reply\n");
  CHECK(prompt_of(bench, {.task = "a", .question = "Where?", .image = false}) ==
        "a\npick(a)\ndone()\n<proprioception>Where?\n");
  CodeBench paper(kPaperPrompt);
  CHECK(paper.memory.remember("pick(a)") && paper.memory.remember("done()"));
  CHECK(prompt_of(paper, {.task = "a", .request = true}) ==
        "<image><image>\na\nPast actions:\npick(a); done()\nPlease give a keystep reply\n");
  CHECK(prompt_of(paper, {.task = "{image}<image>"}) ==
        "<image><image>\n{image}<image>\nPast actions:\npick(a); done()\n");
  for (const char* task : {"", "a\nb", "a\r"}) {
    CHECK_THROWS(ArgumentError, "task: expected one line of text, got", check_line("task", task));
  }
}

void memory_shows_the_newest_that_fit() {
  CodeBench bench;
  for (const char* code : {"red", "cube", "red cube"}) CHECK(bench.memory.remember(code));
  // Each is its words and a line break: 2, 2 and 3 tokens.
  for (const auto& [room, wanted] : {std::pair{7, "red\ncube\nred cube\n"},
                                     {6, "cube\nred cube\n"},
                                     {5, "cube\nred cube\n"},
                                     {4, "red cube\n"},
                                     {2, ""}}) {
    CHECK(prompt_of(bench, {.task = "a", .image = false, .proprioception = false},
                    static_cast<std::size_t>(room)) == "a\n" + std::string(wanted));
  }
  CHECK(bench.memory.shown() == 0 && bench.memory.size() == 3 && bench.memory.forgotten() == 0);
  CodeBench strict(kPrompt, {.keysteps = 8, .overflow = MemoryOverflow::refuse});
  for (const char* code : {"red", "cube", "red cube"}) CHECK(strict.memory.remember(code));
  Bounded<Token> tokens(100);
  CHECK(strict.writer.append({.task = "a"}, strict.memory, 7, tokens));
  CHECK(!strict.writer.append({.task = "a"}, strict.memory, 6, tokens));
}

void memory_that_is_full() {
  CodeBench bench(kPrompt, {.keysteps = 2, .keystep_bytes = 8});
  for (const char* code : {"a()", "b()", "c()"}) CHECK(bench.memory.remember(code));
  CHECK(bench.memory.size() == 2 && bench.memory[0] == "b()" && bench.memory.last() == "c()");
  CHECK(bench.memory.forgotten() == 1 && bench.memory.refused() == 0);
  CHECK(!bench.memory.remember("") && !bench.memory.remember("too long()"));
  CHECK(bench.memory.refused() == 2 && bench.memory.last() == "c()");
  bench.memory.clear();
  CHECK(bench.memory.size() == 0 && bench.memory.last().empty() && bench.memory.forgotten() == 1);
  CodeBench strict(kPrompt, {.keysteps = 1, .overflow = MemoryOverflow::refuse});
  CHECK(strict.memory.remember("a()") && !strict.memory.remember("b()") && strict.memory.last() == "a()");
}

void key_steps_and_stored_poses() {
  for (const char* code : {"done()", "# a\ndone()", " \t done()", "x\n# a", "\xc3\xa9"})
    CHECK(is_keystep(code));
  for (const char* code : {"", "# a", "  # a\n\t#b\n", "\xc2\xa0\xe3\x80\x80\n\x1f#", "#"})
    CHECK(!is_keystep(code));
  for (const char* code : {"pose_dict['A'] = a", "x()\npose_dict [ \"'\" ]=b"}) CHECK(stores_pose(code));
  for (const char* code :
       {"pose_dict['A'] == a", "# pose_dict['A'] = a", " pose_dict['A'] = a", "pose_dict['A] = a",
        "pose_dict[A] = a", "pose_dict['A'", "pose_dict['a\n'] = b"}) {
    CHECK(!stores_pose(code));
  }
  CodeBench bench;
  for (const char* code : {"pose_dict['A'] = a", "pick(b)", "pose_dict['B'] = c\nmove3d(d)"}) {
    CHECK(bench.memory.remember(code));
  }
  BoundedText info(bench.memory.info_capacity());
  CHECK(bench.memory.append_info(info) && info.text() == "pose_dict['A'] = a\npose_dict['B'] = c\nmove3d(d)");
}

void early_stop() {
  CHECK(goes_on("# pick(a)", "# pick(a)\n# b", 9) && !goes_on("# pick(a", "# pick(a)", 9));
  CHECK(goes_on("# a", "# a", 24) && !goes_on("# ", "# a", 24) && !goes_on("# a", "", 24));
  CHECK(goes_on("# \xc3\xa9", "# \xc3\xa9tude", 3) && !goes_on("# \xc3", "# \xc3\xa9tude", 3));
}

}  // namespace

int main() {
  tokens_are_as_specified();
  what_has_no_room_is_not_there();
  bad_tables_name_the_field();
  long_texts_are_merged_stretch_by_stretch();
  bad_layouts_name_the_field();
  prompts_follow_the_layout();
  memory_shows_the_newest_that_fit();
  memory_that_is_full();
  key_steps_and_stored_poses();
  early_stop();
  return result();
}
