#include "bind_code.hpp"
#include "code/constraint.hpp"
#include "convert.hpp"

namespace keystep::python {
namespace {

/// A constraint, and where a reply stands.
struct ConstrainedReply {
  ConstrainedReply(const std::string& words, const std::string& api, int grid)
      : tokenizer(read_words(words)), constraint(read_api(api), grid, tokenizer), place(constraint.start()) {}

  const WordTokenizer tokenizer;
  const CodeConstraint constraint;
  CodePlace place;
};

std::unique_ptr<ConstrainedReply> make(py::handle words, py::handle api, py::handle grid) {
  return std::make_unique<ConstrainedReply>(text(words, "words"), text(api, "api"),
                                            integer<int>(grid, "grid", 1, 100));
}

/// Ascending.
py::list allowed(const ConstrainedReply& self, py::handle left) {
  const auto tokens = integer<std::size_t>(left, "left", 0);
  py::list found;
  for (Token token = 0; token < self.tokenizer.size(); ++token) {
    if (self.constraint.allows(self.place, token, tokens)) found.append(token);
  }
  return found;
}

bool advance(ConstrainedReply& self, py::handle token) {
  CodePlace next = self.place;
  const bool found = self.constraint.advance(next, integer<Token>(token, "token"));
  if (found) self.place = next;
  return found;
}

}  // namespace

void bind_constraint(py::module_& module) {
  py::class_<ConstrainedReply>(module, "ConstrainedReply",
                               "What a reply may say: the C++ twin of keystep.code.constraint.")
      .def(py::init(&make), py::arg("words"), py::arg("api"), py::arg("grid"))
      .def("restart", [](ConstrainedReply& self) { self.place = self.constraint.start(); })
      .def("allowed", &allowed, py::arg("left"))
      .def("advance", &advance, py::arg("token"))
      .def_property_readonly(
          "complete", [](const ConstrainedReply& self) { return self.constraint.complete(self.place); })
      .def_property_readonly("shortest",
                             [](const ConstrainedReply& self) { return self.constraint.shortest(); })
      .def_property_readonly("nodes", [](const ConstrainedReply& self) { return self.constraint.nodes(); });
}

}  // namespace keystep::python
