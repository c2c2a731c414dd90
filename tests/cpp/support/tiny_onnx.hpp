// Just enough of the ONNX protobuf format (onnx.proto3) to write graphs from C++ tests, with no Python.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace keystep::test {

/// A protobuf message being written: `number` is the field's number in onnx.proto3.
class Message {
 public:
  Message& integer(int number, std::uint64_t value) {
    varint(static_cast<std::uint64_t>(number) << 3);
    varint(value);
    return *this;
  }
  Message& bytes(int number, const std::string& value) {
    varint(static_cast<std::uint64_t>(number) << 3 | 2);
    varint(value.size());
    text_ += value;
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

constexpr int kOnnxFloat = 1, kOnnxInt64 = 7, kOnnxString = 8;
constexpr int kRows = -1;  ///< an extent: the symbolic axis "rows"

class TinyGraph {
 public:
  TinyGraph& input(const std::string& name, int type, const std::vector<int>& shape) {
    graph_.bytes(11, value_info(name, type, shape));
    return *this;
  }
  TinyGraph& output(const std::string& name, int type, const std::vector<int>& shape) {
    graph_.bytes(12, value_info(name, type, shape));
    return *this;
  }
  TinyGraph& constant(const std::string& name, const std::vector<int>& shape,
                      const std::vector<float>& values) {
    return initializer(name, kOnnxFloat, shape, values);
  }
  TinyGraph& integers(const std::string& name, const std::vector<std::int64_t>& values) {
    return initializer(name, kOnnxInt64, {static_cast<int>(values.size())}, values);
  }
  /// An operator of onnxruntime-extensions' domain.
  TinyGraph& custom(const std::string& op, const std::string& input, const std::string& output) {
    custom_ = true;
    graph_.bytes(1, Message().bytes(1, input).bytes(2, output).bytes(4, op).bytes(7, kCustomDomain).str());
    return *this;
  }
  /// The mean over one axis, which stays with extent 1.
  TinyGraph& mean(const std::string& input, const std::string& output, int axis) {
    constexpr int kInts = 7;
    const Message axes =
        Message().bytes(1, "axes").integer(8, static_cast<std::uint64_t>(axis)).integer(20, kInts);
    graph_.bytes(
        1, Message().bytes(1, input).bytes(2, output).bytes(4, "ReduceMean").bytes(5, axes.str()).str());
    return *this;
  }
  /// `cast_to`: the attribute "to" of Cast, 0 for nodes without attributes.
  TinyGraph& node(const std::string& op, const std::vector<std::string>& inputs, const std::string& output,
                  int cast_to = 0) {
    Message node;
    for (const std::string& name : inputs) node.bytes(1, name);
    node.bytes(2, output).bytes(4, op);
    if (cast_to != 0) {
      constexpr int kInt = 2;
      node.bytes(
          5,
          Message().bytes(1, "to").integer(3, static_cast<std::uint64_t>(cast_to)).integer(20, kInt).str());
    }
    graph_.bytes(1, node.str());
    return *this;
  }
  /// The model file: IR version 8, opset 13.
  std::string file() const {
    Message graph = graph_;
    graph.bytes(2, "tiny");
    Message model = Message().integer(1, 8).bytes(7, graph.str()).bytes(8, opset("", 13));
    if (custom_) model.bytes(8, opset(kCustomDomain, 1));
    return model.str();
  }

 private:
  static constexpr const char* kCustomDomain = "ai.onnx.contrib";
  static std::string opset(const std::string& domain, std::uint64_t version) {
    return Message().bytes(1, domain).integer(2, version).str();
  }
  template <class T>
  TinyGraph& initializer(const std::string& name, int type, const std::vector<int>& shape,
                         const std::vector<T>& values) {
    Message tensor;
    for (const int extent : shape) tensor.integer(1, static_cast<std::uint64_t>(extent));
    std::string raw(values.size() * sizeof(T), '\0');
    std::memcpy(raw.data(), values.data(), raw.size());
    graph_.bytes(5, tensor.integer(2, static_cast<std::uint64_t>(type)).bytes(8, name).bytes(9, raw).str());
    return *this;
  }
  static std::string value_info(const std::string& name, int type, const std::vector<int>& shape) {
    Message dims;
    for (const int extent : shape) {
      Message dim;
      dims.bytes(1, extent == kRows ? dim.bytes(2, "rows").str()
                                    : dim.integer(1, static_cast<std::uint64_t>(extent)).str());
    }
    const Message tensor = Message().integer(1, static_cast<std::uint64_t>(type)).bytes(2, dims.str());
    return Message().bytes(1, name).bytes(2, Message().bytes(1, tensor.str()).str()).str();
  }
  Message graph_;
  bool custom_ = false;
};

/// The stub engine's closed forms as real graphs, for bundle_fixture's kManifest.
inline std::string encode_graph() {
  return TinyGraph()
      .input("state", kOnnxFloat, {1, 3})
      .input("task", kOnnxInt64, {1})
      .constant("ones", {1, 6}, {1, 1, 1, 1, 1, 1})
      .node("ReduceMean", {"state"}, "mean")
      .node("Cast", {"task"}, "index", kOnnxFloat)
      .node("Add", {"mean", "index"}, "sum")
      .node("Mul", {"ones", "sum"}, "film")
      .output("film", kOnnxFloat, {1, 6})
      .file();
}

inline std::string denoise_graph(int horizon = 4, int time_type = kOnnxInt64,
                                 const std::string& film = "film") {
  return TinyGraph()
      .input("noisy", kOnnxFloat, {1, horizon, 2})
      .input("t", time_type, {1})
      .input(film, kOnnxFloat, {1, 6})
      .constant("tenth", {1}, {0.1f})
      .constant("thousandth", {1}, {0.001f})
      .node("ReduceMean", {film}, "bias")
      .node("Cast", {"t"}, "time", kOnnxFloat)
      .node("Mul", {"time", "thousandth"}, "drift")
      .node("Mul", {"noisy", "tenth"}, "damped")
      .node("Add", {"damped", "drift"}, "shifted")
      .node("Add", {"shifted", "bias"}, "eps")
      .output("eps", kOnnxFloat, {1, horizon, 2})
      .file();
}

/// A text that is a number, as the conditional row of an embedding of `width`; the null row is zero.
inline std::string text_graph(int width) {
  return TinyGraph()
      .input("text", kOnnxString, {1})
      .constant("rows", {2, 1}, {1, 0})
      .constant("ones", {1, width}, std::vector<float>(static_cast<std::size_t>(width), 1))
      .node("Cast", {"text"}, "number", kOnnxFloat)
      .node("Mul", {"rows", "number"}, "column")
      .node("Mul", {"column", "ones"}, "goal_text")
      .output("goal_text", kOnnxFloat, {2, width})
      .file();
}

/// The stub's plan_denoise for `subgoals` states; `rows` may be kRows.
inline std::string plan_denoise_graph(int rows, int subgoals, int state, int width) {
  return TinyGraph()
      .input("plan.sample", kOnnxFloat, {rows, subgoals, state})
      .input("plan.timestep", kOnnxInt64, {1})
      .input("goal_text", kOnnxFloat, {rows, width})
      .constant("tenth", {1}, {0.1f})
      .constant("thousandth", {1}, {0.001f})
      .integers("last", {2})
      .mean("goal_text", "column", 1)
      .node("Unsqueeze", {"column", "last"}, "bias")
      .node("Cast", {"plan.timestep"}, "time", kOnnxFloat)
      .node("Mul", {"time", "thousandth"}, "drift")
      .node("Mul", {"plan.sample", "tenth"}, "damped")
      .node("Add", {"damped", "drift"}, "shifted")
      .node("Add", {"shifted", "bias"}, "plan.model_output")
      .output("plan.model_output", kOnnxFloat, {rows, subgoals, state})
      .file();
}

/// A cache of `capacity` positions: each row of `sample` goes to the next one, and gets the sum of all up to
/// it.
inline std::string cache_graph(int rows, int capacity, int width) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(capacity));
  for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<std::int64_t>(i);
  return TinyGraph()
      .input("sample", kOnnxFloat, {rows, width})
      .input("length", kOnnxInt64, {1})
      .input("past", kOnnxFloat, {capacity, width})
      .integers("first", {0})
      .integers("column", {1})
      .integers("all", positions)
      .node("Shape", {"sample"}, "extents")
      .node("Gather", {"extents", "first"}, "count")
      .node("Add", {"length", "count"}, "end")
      .node("Squeeze", {"length"}, "from")
      .node("Squeeze", {"end"}, "to")
      .node("Squeeze", {"column"}, "one")
      .node("Range", {"from", "to", "one"}, "taken")
      .node("Unsqueeze", {"taken", "column"}, "at")
      .node("ScatterND", {"past", "at", "sample"}, "present")
      .node("LessOrEqual", {"all", "at"}, "seen")
      .node("Cast", {"seen"}, "mask", kOnnxFloat)
      .node("MatMul", {"mask", "present"}, "model_output")
      .output("present", kOnnxFloat, {capacity, width})
      .output("model_output", kOnnxFloat, {rows, width})
      .file();
}

}  // namespace keystep::test
