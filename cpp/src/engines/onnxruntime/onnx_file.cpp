#include "engines/onnxruntime/onnx_file.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "bundle/bundle_check.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {
namespace {

using Bytes = std::string_view;

[[noreturn]] void malformed(const std::string& got) {
  refuse("file", "a graph that onnxruntime loads, ONNX", got);
}

/// The fields of a protobuf message, one after the other (protobuf.dev, "Encoding").
class Fields {
 public:
  enum Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  explicit Fields(Bytes message) : rest_(message) {}

  bool next() {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    if (tag >> 32 != 0 || tag >> 3 == 0) malformed("a protobuf tag out of range");
    number_ = static_cast<int>(tag >> 3);
    wire_ = static_cast<int>(tag & 7);
    value_ = {};
    switch (wire_) {
      case kVarint:
        varint();
        return true;
      case kFixed64:
        take(8);
        return true;
      case kBytes:
        value_ = take(varint());
        return true;
      case kFixed32:
        take(4);
        return true;
      default:  // groups, which ONNX never had
        malformed("a protobuf field of wire type " + std::to_string(wire_));
    }
  }

  /// Whether the field is message, text or bytes `number`.
  bool is(int number) const { return number_ == number && wire_ == kBytes; }
  Bytes value() const { return value_; }

 private:
  Bytes take(std::uint64_t count) {
    if (count > rest_.size()) malformed("a protobuf that ends early");
    const Bytes taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    malformed("a protobuf number of more than ten bytes");
  }

  Bytes rest_, value_;
  int number_ = 0, wire_ = 0;
};

std::uint64_t count_of(Bytes text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  malformed("external data with an offset or a length of '" + readable(text) + "'");
}

/// Collects by field numbers of onnx.proto3.
class Scan {
 public:
  OnnxFile found;

  void model(Bytes message) {
    bool has_graph = false;
    for (Fields fields(message); fields.next();) {
      if (fields.is(7)) {
        has_graph = true;
        graph(fields.value(), true);
      }
      if (fields.is(20)) training(fields.value());
      if (fields.is(25)) function(fields.value());
    }
    if (!has_graph) malformed("one without a graph");
  }

 private:
  void graph(Bytes message, bool main) {
    constexpr int kMaxDepth = 64;  // of graphs in nodes of graphs
    if (++depth_ > kMaxDepth) malformed("more than " + std::to_string(kMaxDepth) + " levels of graphs");
    for (Fields fields(message); fields.next();) {
      if (fields.is(1)) node(fields.value());
      if (fields.is(5)) tensor(fields.value(), main);
      if (fields.is(15)) sparse(fields.value());
      if (fields.is(11) && main) input(fields.value());
    }
    --depth_;
  }

  void training(Bytes message) {
    for (Fields fields(message); fields.next();) {
      if (fields.is(1) || fields.is(2)) graph(fields.value(), false);
    }
  }

  void function(Bytes message) {
    for (Fields fields(message); fields.next();) {
      if (fields.is(7)) node(fields.value());
      if (fields.is(11)) attribute(fields.value());
    }
  }

  void node(Bytes message) {
    for (Fields fields(message); fields.next();) {
      // A compiled graph, often in a file that only its attribute names.
      if (fields.is(4) && fields.value() == "EPContext") refuse("file", "no node EPContext", "one");
      if (fields.is(5)) attribute(fields.value());
    }
  }

  void attribute(Bytes message) {
    for (Fields fields(message); fields.next();) {
      if (fields.is(5) || fields.is(10)) tensor(fields.value(), false);
      if (fields.is(6) || fields.is(11)) graph(fields.value(), false);
      if (fields.is(22) || fields.is(23)) sparse(fields.value());
    }
  }

  void sparse(Bytes message) {
    for (Fields fields(message); fields.next();) {
      if (fields.is(1) || fields.is(2)) tensor(fields.value(), false);
    }
  }

  void tensor(Bytes message, bool of_main_graph) {
    std::optional<std::string> location;
    std::uint64_t offset = 0, length = 0;
    for (Fields fields(message); fields.next();) {
      if (!fields.is(13)) continue;
      if (!of_main_graph) refuse("file", "external data of the main graph's initializers only", "others");
      const auto [key, value] = entry(fields.value());
      if (key == "location") location = std::string(value);
      if (key == "offset") offset = count_of(value);
      if (key == "length") length = count_of(value);
      if (location) found.external.emplace(*location, 0);
    }
    if (!location) return;
    if (offset > UINT64_MAX - length) malformed("external data beyond every file");
    std::uint64_t& end = found.external[*location];
    end = std::max(end, offset + length);
  }

  static std::pair<Bytes, Bytes> entry(Bytes message) {
    Bytes key, value;
    for (Fields fields(message); fields.next();) {
      if (fields.is(1)) key = fields.value();
      if (fields.is(2)) value = fields.value();
    }
    return {key, value};
  }

  void input(Bytes message) {
    std::string name, axis;
    for (Fields fields(message); fields.next();) {
      if (fields.is(1)) name = fields.value();
      if (fields.is(2)) axis = leading_axis(fields.value());
    }
    if (!axis.empty()) found.rows[name] = axis;
  }

  /// The name of a tensor type's first extent; empty: it is a number, or there is none.
  static std::string leading_axis(Bytes type) {
    const auto inner = [](Bytes message, int number) {
      for (Fields fields(message); fields.next();) {
        if (fields.is(number)) return fields.value();
      }
      return Bytes();
    };
    constexpr int kTensorType = 1, kShape = 2, kDim = 1, kName = 2;
    return std::string(inner(inner(inner(inner(type, kTensorType), kShape), kDim), kName));
  }

  int depth_ = 0;
};

/// What the graph's file names beside itself must be hashed by the manifest, and hold what it is to hold.
void check_named(const OnnxFile& file, const Files& external) {
  for (const auto& [location, bytes] : file.external) {
    const std::string quoted = "'" + readable(location) + "'";
    const auto found = external.find(location);
    if (found == external.end()) {
      throw BundleError(expected("external", "every file that the graph's weights are in, with its SHA-256",
                                 "none for " + quoted));
    }
    if (bytes > found->second->size()) {
      throw BundleError(expected("external", quoted + " of at least " + std::to_string(bytes) + " bytes",
                                 std::to_string(found->second->size())));
    }
  }
  for (const auto& [name, content] : external) {
    if (file.external.contains(name)) continue;
    throw BundleError(expected("external", "files that the graph names", "'" + readable(name) + "'"));
  }
}

std::shared_ptr<const FileContent> shared_content(const Files& files, const std::string& name) {
  content_of(files, name);
  return files.at(name);
}

}  // namespace

GraphContent content_for(const Files& files, const GraphSpec& spec) {
  GraphContent content{spec.file, shared_content(files, spec.file), {}};
  for (const FileSpec& external : spec.external) {
    content.external[external.file] = shared_content(files, external.file);
  }
  return content;
}

OnnxFile read_onnx(const GraphContent& content) {
  Scan scan;
  scan.model({reinterpret_cast<const char*>(content.graph->data()), content.graph->size()});
  check_named(scan.found, content.external);
  return std::move(scan.found);
}

void check_external(const Bundle& bundle) {
  for (const auto& [key, graph] : bundle.graphs) {
    try {
      read_onnx(content_for(bundle.files, graph));
    } catch (const BundleError& refused) {
      throw BundleError("graphs." + key + "." + refused.what());
    }
  }
}

}  // namespace keystep
