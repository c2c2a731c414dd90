#include "bind_code.hpp"

#include "convert.hpp"
#include "keystep/code_memory.hpp"
#include "keystep/code_text.hpp"

namespace keystep::python {
namespace {

py::list list_of(std::span<const Token> tokens) {
  py::list found(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) found[i] = py::int_(tokens[i]);
  return found;
}

py::bytes bytes_of(std::string_view text) { return {text.data(), text.size()}; }

/// The content of bytes, which may be no UTF-8, or a text's.
std::string raw(py::handle value, const char* field) {
  return PyBytes_Check(value.ptr()) ? py::cast<std::string>(value) : text(value, field);
}

/// A tokenizer with the layout of prompts and the memory of one episode.
struct CodeText {
  CodeText(const std::string& words, const std::string& prompt, int image_tokens, MemoryLimits limits,
           std::size_t capacity)
      : tokenizer(read_words(words)),
        writer(read_prompt(prompt), tokenizer, image_tokens, capacity),
        memory(writer, limits),
        tokens(capacity),
        bytes(std::max(capacity * WordTokenizer::kMostBytes, memory.info_capacity())) {}

  const WordTokenizer tokenizer;
  PromptWriter writer;
  CodeMemory memory;
  Bounded<Token> tokens;
  BoundedText bytes;
};

std::unique_ptr<CodeText> make(py::handle words, py::handle prompt, py::handle image_tokens,
                               py::handle keysteps, py::handle forgets, py::handle capacity) {
  constexpr std::size_t kMost = 1 << 20;
  const MemoryLimits limits{
      .keysteps = integer<std::size_t>(keysteps, "keysteps", 1, 1024),
      .overflow = flag(forgets, "forgets") ? MemoryOverflow::forget_oldest : MemoryOverflow::refuse};
  return std::make_unique<CodeText>(text(words, "words"), text(prompt, "prompt"),
                                    integer<int>(image_tokens, "image_tokens", 1, 4096), limits,
                                    integer<std::size_t>(capacity, "capacity", 1, kMost));
}

[[noreturn]] void no_room(const char* field, std::size_t capacity) {
  throw ArgumentError(expected(field, "what fits into " + std::to_string(capacity) + " tokens", "more"));
}

py::list encode(CodeText& self, py::handle value) {
  self.tokens.clear();
  if (!self.tokenizer.encode(raw(value, "text"), self.tokens)) no_room("text", self.tokens.capacity());
  return list_of(self.tokens.view());
}

py::bytes decode(CodeText& self, const py::list& ids) {
  self.tokens.clear();
  self.bytes.clear();
  for (const py::handle id : ids) {
    if (!self.tokens.append(integer<Token>(id, "ids"))) no_room("ids", self.tokens.capacity());
  }
  if (self.tokenizer.decode(self.tokens.view(), self.bytes)) return bytes_of(self.bytes.text());
  throw ArgumentError(expected("ids", "text", "a special, or none of the table"));
}

/// None: it cannot be written.
py::object prompt(CodeText& self, py::handle task, py::handle question, py::handle request, py::handle image,
                  py::handle proprioception, py::handle room) {
  const std::string told = text(task, "task"), asked = text(question, "question");
  check_line("task", told);
  self.tokens.clear();
  const Question all{told, asked, flag(request, "request"), flag(image, "image"),
                     flag(proprioception, "proprioception")};
  const auto limit = integer<std::size_t>(room, "room", 0);
  if (!self.writer.append(all, self.memory, limit, self.tokens)) return py::none();
  return list_of(self.tokens.view());
}

py::list instructions(const CodeText& self) {
  py::list found;
  for (std::size_t i = 0; i < self.memory.size(); ++i) found.append(bytes_of(self.memory[i]));
  return found;
}

py::bytes info(CodeText& self) {
  self.bytes.clear();
  if (!self.memory.append_info(self.bytes)) no_room("memory", self.tokens.capacity());
  return bytes_of(self.bytes.text());
}

py::str shown_text(const py::bytes& value) {
  const std::string plain = value;
  BoundedText text(3 * plain.size());
  if (!append_as_utf8(plain, text)) no_room("text", text.capacity());
  return {text.text().data(), text.size()};
}

py::bytes comment(py::handle code) {
  const std::string plain = raw(code, "code");
  BoundedText commented(3 * plain.size() + 2);
  if (!append_comment(plain, commented)) no_room("code", commented.capacity());
  return bytes_of(commented.text());
}

}  // namespace

void bind_code(py::module_& module) {
  module.def(
      "is_keystep", [](py::handle reply) { return is_keystep(raw(reply, "reply")); }, py::arg("reply"));
  module.def("stores_pose", [](py::handle code) { return stores_pose(raw(code, "code")); }, py::arg("code"));
  module.def("as_utf8", &shown_text, py::arg("text"));
  module.def("comment", &comment, py::arg("code"));
  module.def(
      "goes_on",
      [](py::handle reply, py::handle commented, py::handle characters) {
        return goes_on(raw(reply, "reply"), raw(commented, "commented"),
                       integer<std::size_t>(characters, "characters", 1));
      },
      py::arg("reply"), py::arg("commented"), py::arg("characters"));
  py::class_<CodeText>(module, "CodeText",
                       "What a planner that writes reads and remembers: the C++ twin of keystep.code.")
      .def(py::init(&make), py::arg("words"), py::arg("prompt"), py::arg("image_tokens"), py::arg("keysteps"),
           py::arg("forgets"), py::arg("capacity"))
      .def("encode", &encode, py::arg("text"))
      .def("decode", &decode, py::arg("ids"))
      .def("prompt", &prompt, py::arg("task"), py::arg("question"), py::arg("request"), py::arg("image"),
           py::arg("proprioception"), py::arg("room"))
      .def("remember",
           [](CodeText& self, py::handle code) { return self.memory.remember(raw(code, "code")); })
      .def("forget", [](CodeText& self) { self.memory.clear(); })
      .def("instructions", &instructions)
      .def("info", &info)
      .def_property_readonly("forgotten", [](const CodeText& self) { return self.memory.forgotten(); })
      .def_property_readonly("shown", [](const CodeText& self) { return self.memory.shown(); });
}

}  // namespace keystep::python
