#include "code/code_automaton.hpp"

#include <array>
#include <map>
#include <string_view>
#include <tuple>

#include "keystep/status.hpp"

namespace keystep {
namespace {

using NodeId = CodeAutomaton::NodeId;
using Edge = CodeAutomaton::Edge;

constexpr NodeId kNone = CodeAutomaton::kNone;
constexpr std::size_t kMostNodes = 1 << 18;
constexpr std::size_t kMostSteps = 1 << 23;  // of making them: ours take some thousands
constexpr int kMostBrackets = 6;             // inside one another, as keystep.code.characters has it
constexpr std::uint16_t kMostString = 64;    // characters, as keystep.code.grammar has it
constexpr int kWholeDigits = 6, kFractionDigits = 3;

const ParameterSpec kAnActor = {"", {ValueType::actor}, true, {}};
const ParameterSpec kAPose = {"", {ValueType::pose}, true, {}};

/// Makes nodes from the end of the line to its beginning: `then` is what comes behind. Where nothing can come
/// behind there is no node, and equal nodes are one.
class Maker {
 public:
  Maker(const CodeApi& api, int grid) : api_(api), grid_(grid) { add(0, {}); }

  CodeAutomaton make() {
    NodeId line = text("pose_dict[", string(text("] = ", value(kAPose, kMostBrackets, CodeAutomaton::kEnd))));
    for (const FunctionSpec& function : api_) {
      if (!function.result) line = either(line, call(function, kMostBrackets, CodeAutomaton::kEnd));
    }
    made_.line = line;
    made_.mark = text("# ", line);
    made_.reply = either(line, made_.mark);
    return std::move(made_);
  }

 private:
  /// By byte.
  using Row = std::array<NodeId, 128>;

  static Row nothing() {
    Row row;
    row.fill(kNone);
    return row;
  }

  [[noreturn]] static void refuse() {
    const std::string wanted = "functions whose calls have at most " + std::to_string(kMostNodes) + " places";
    throw BundleError(expected("api", wanted, "more"));
  }

  /// Before each that may lead to many more: equal nodes are made once, but have to be found.
  void count_step() {
    if (++steps_ > kMostSteps) refuse();
  }

  NodeId add(std::uint16_t most, const std::vector<Edge>& edges) {
    if (made_.nodes.size() == kMostNodes) refuse();
    made_.nodes.push_back({0, 0, most});
    fill(static_cast<NodeId>(made_.nodes.size() - 1), edges);
    return static_cast<NodeId>(made_.nodes.size() - 1);
  }

  void fill(NodeId node, const std::vector<Edge>& edges) {
    CodeAutomaton::Node& filled = made_.nodes[static_cast<std::size_t>(node)];
    filled.first_edge = static_cast<std::uint32_t>(made_.edges.size());
    filled.edges = static_cast<std::uint16_t>(edges.size());
    made_.edges.insert(made_.edges.end(), edges.begin(), edges.end());
  }

  static std::vector<Edge> edges_of(const Row& row) {
    std::vector<Edge> edges;
    for (std::size_t byte = 0; byte < row.size(); ++byte) {
      const auto one = static_cast<std::uint8_t>(byte);
      if (row[byte] == kNone) continue;
      const bool goes_on = !edges.empty() && edges.back().last + 1 == one && edges.back().next == row[byte];
      if (goes_on) edges.back().last = one;
      if (!goes_on) edges.push_back({one, one, row[byte]});
    }
    return edges;
  }

  Row row_of(NodeId node) const {
    Row row = nothing();
    const CodeAutomaton::Node& found = made_.nodes[static_cast<std::size_t>(node)];
    for (std::size_t i = 0; i < found.edges; ++i) {
      const Edge& edge = made_.edges[found.first_edge + i];
      for (int byte = edge.first; byte <= edge.last; ++byte) row[static_cast<std::size_t>(byte)] = edge.next;
    }
    return row;
  }

  NodeId node(const Row& row) {
    const std::vector<Edge> edges = edges_of(row);
    if (edges.empty()) return kNone;
    const auto [found, is_new] = known_.try_emplace(edges, kNone);
    if (is_new) found->second = add(0, edges);
    return found->second;
  }

  NodeId text(std::string_view bytes, NodeId then) {
    for (std::size_t at = bytes.size(); at > 0 && then != kNone; --at) {
      Row row = nothing();
      row[static_cast<std::size_t>(bytes[at - 1])] = then;
      then = node(row);
    }
    return then;
  }

  /// Neither is the end of a line, nor inside a string.
  NodeId either(NodeId one, NodeId other) {
    if (one == kNone || one == other) return other;
    if (other == kNone) return one;
    count_step();
    Row row = row_of(one);
    const Row more = row_of(other);
    for (std::size_t byte = 0; byte < row.size(); ++byte) row[byte] = either(row[byte], more[byte]);
    return node(row);
  }

  // ---- values

  NodeId value(const ParameterSpec& of, int brackets, NodeId then) {
    if (then == kNone) return kNone;
    count_step();
    const std::tuple key(number_of(of), brackets, then);
    if (const auto found = values_.find(key); found != values_.end()) return found->second;
    NodeId made = kNone;
    for (const std::string& choice : of.choices) made = either(made, text("'" + choice + "'", then));
    for (const ValueType type : of.choices.empty() ? of.types : std::vector<ValueType>()) {
      made = either(made, literal(type, brackets, then));
      for (const FunctionSpec& function : api_) {
        if (function.result == type) made = either(made, call(function, brackets, then));
      }
    }
    return values_[key] = made;
  }

  NodeId literal(ValueType type, int brackets, NodeId then) {
    switch (type) {
      case ValueType::string:
        return string(then);
      case ValueType::number:
        return number(then);
      case ValueType::boolean:
        return either(text("True", then), text("False", then));
      case ValueType::pose:
        return brackets > 0 ? text("pose_dict[", string(text("]", then))) : kNone;
      case ValueType::position:
        return brackets > 0 ? position(then) : kNone;
      case ValueType::actors:
        return brackets > 0 ? actors(brackets - 1, then) : kNone;
      case ValueType::actor:
        break;
    }
    return kNone;
  }

  NodeId call(const FunctionSpec& function, int brackets, NodeId then) {
    if (brackets == 0 || then == kNone) return kNone;
    const std::tuple key(&function, brackets, then);
    if (const auto found = calls_.find(key); found != calls_.end()) return found->second;
    const std::size_t count = function.parameters.size();
    NodeId first = text(")", then), later = first;  // from this parameter on: the first one given, or not
    for (std::size_t at = count; at > 0; --at) {
      const ParameterSpec& of = function.parameters[at - 1];
      const NodeId given = text(of.required ? "" : of.name + "=", value(of, brackets - 1, later));
      first = of.required ? given : either(given, first);
      later = of.required ? text(", ", given) : either(text(", ", given), later);
    }
    return calls_[key] = text(function.name + "(", first);
  }

  /// Parameters that take the same have one.
  int number_of(const ParameterSpec& of) {
    const auto next = static_cast<int>(kinds_.size());
    return kinds_.try_emplace({of.types, of.choices}, next).first->second;
  }

  NodeId position(NodeId then) {
    const NodeId close = text(")", then);
    return either(text("(-1, -1", close), text("(", cell(text(", ", cell(close)))));
  }

  NodeId cell(NodeId then) {
    NodeId made = kNone;
    for (int number = 0; number <= grid_; ++number) made = either(made, text(std::to_string(number), then));
    return made;
  }

  NodeId actors(int brackets, NodeId then) {
    const auto [found, is_new] = lists_.try_emplace({brackets, then}, kNone);
    if (!is_new) return found->second;
    const NodeId close = text("]", then), item_end = add(0, {});
    const NodeId item = value(kAnActor, brackets, item_end);
    Row row = row_of(close);
    row[','] = text(" ", item);
    fill(item_end, edges_of(row));
    return lists_[{brackets, then}] = text("[", item);
  }

  /// As Python's repr writes it: in double quotes if it has an apostrophe.
  NodeId string(NodeId then) {
    if (then == kNone) return kNone;
    const auto [found, is_new] = strings_.try_emplace(then, kNone);
    if (!is_new) return found->second;
    const NodeId plain = inside('\'', kMostString, then, kNone);
    const NodeId with = inside('"', kMostString, then, kNone);
    const NodeId without = inside('"', kMostString - 1, kNone, with);
    Row quoted = characters('"', without);
    quoted['\''] = with;
    return found->second = either(text("'", node(characters('\'', plain))), text("\"", node(quoted)));
  }

  /// Goes on with itself, ends where it may (`then`), and with an apostrophe leads to `apostrophe`.
  NodeId inside(char quote, int most, NodeId then, NodeId apostrophe) {
    const NodeId made = add(static_cast<std::uint16_t>(most), {});
    Row row = characters(quote, made);
    row[static_cast<std::size_t>(quote)] = then;
    if (apostrophe != kNone) row['\''] = apostrophe;
    fill(made, edges_of(row));
    return made;
  }

  static Row characters(char quote, NodeId then) {
    Row row = nothing();
    for (std::size_t byte = ' '; byte <= '~'; ++byte) row[byte] = then;
    row['\\'] = row[static_cast<std::size_t>(quote)] = kNone;
    return row;
  }

  /// Of less than a million, with at most three decimals, as Python's repr writes it.
  NodeId number(NodeId then) {
    if (then == kNone) return kNone;
    const NodeId point = text(".", fraction(1, then));
    NodeId whole = kNone;  // behind so many digits of which the first is none
    for (int digits = kWholeDigits; digits > 0; --digits) {
      const NodeId end = either(then, point);
      whole = digits == kWholeDigits ? end : either(end, digit('0', '9', whole));
    }
    const NodeId positive = digit('1', '9', whole);
    const NodeId minus = text("-", either(positive, text("0", point)));
    return either(minus, either(positive, text("0", either(then, point))));
  }

  /// From the digit with this number on; the last one is no 0, unless it is the first.
  NodeId fraction(int at, NodeId then) {
    const NodeId more = at < kFractionDigits ? fraction(at + 1, then) : kNone;
    const NodeId behind_zero = at == 1 ? either(then, more) : more;
    return either(text("0", behind_zero), digit('1', '9', either(then, more)));
  }

  NodeId digit(char first, char last, NodeId then) {
    Row row = nothing();
    for (char byte = first; byte <= last; ++byte) row[static_cast<std::size_t>(byte)] = then;
    return node(row);
  }

  const CodeApi& api_;
  const int grid_;
  CodeAutomaton made_;
  std::map<std::vector<Edge>, NodeId> known_;
  std::map<std::pair<std::vector<ValueType>, std::vector<std::string>>, int> kinds_;
  std::map<std::tuple<int, int, NodeId>, NodeId> values_;
  std::map<std::tuple<const FunctionSpec*, int, NodeId>, NodeId> calls_;
  std::size_t steps_ = 0;
  std::map<std::pair<int, NodeId>, NodeId> lists_;
  std::map<NodeId, NodeId> strings_;
};

}  // namespace

CodeAutomaton make_automaton(const CodeApi& api, int grid) { return Maker(api, grid).make(); }

}  // namespace keystep
