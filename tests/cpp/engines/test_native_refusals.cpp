// What the native engine refuses: options, U-Nets, graphs that disagree with the weights, wrong weights
// files.
#include <limits>

#include "check.hpp"
#include "loaded_unet.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

const UnetShape kShape = {};  // two levels

native::NativeEngine make(EngineOptions options) { return native::NativeEngine(options); }

void options() {
  CHECK_THROWS(ArgumentError, "isa: expected portable", make({.isa = "sse9"}));
  CHECK_THROWS(ArgumentError, "'AVX2'", make({.isa = "AVX2"}));
  CHECK_THROWS(ArgumentError, "precision: expected fp32 | bf16 | int8, got 'fp16'",
               make({.precision = "fp16"}));
  CHECK_THROWS(ArgumentError, "threads: expected", make({.threads = cores_here() + 1}));
  CHECK_THROWS(ArgumentError, "spin_us: expected", make({.spin_us = -1}));
  CHECK_THROWS(ArgumentError, "spin_us: expected", make({.spin_us = 100001}));
  for (const std::string& isa : kIsas) {
    if (cpu_runs(isa)) {
      make({.isa = isa});
    } else {
      CHECK_THROWS(ArgumentError, "isa: expected portable", make({.isa = isa}));
    }
  }
}

std::string refusal(const std::function<void(UnetSpec&)>& change, const std::string& precision = "") {
  UnetSpec spec = unet_spec(kShape, "bf16");
  change(spec);
  return make({.precision = precision}).refusal(spec);
}

void unets() {
  CHECK(refusal([](UnetSpec&) {}) == "");
  CHECK(refusal([](UnetSpec& unet) {
          unet.kind = "mlp";
        }).starts_with("unet.kind: expected conditional_unet1d"));
  CHECK(refusal([](UnetSpec& unet) { unet.kernel_size = 4; }).starts_with("unet.kernel_size: expected"));
  CHECK(refusal([](UnetSpec& unet) {
          unet.groups = 3;
        }).starts_with("unet.down_dims: expected multiples of groups 3"));
  CHECK(refusal([](UnetSpec& unet) { unet.down_dims = {8, 18}; }) != "");
  CHECK(refusal([](UnetSpec&) {}, "fp32").starts_with("precision: expected"));
  CHECK(refusal([](UnetSpec&) {}, "int8") == "");
  CHECK(refusal([](UnetSpec& unet) { unet.precision = "int8"; }, "bf16").starts_with("precision: expected"));
}

/// By the kernels that run: a set's extension for one precision says nothing of the others.
void describes_itself() {
  const UnetSpec spec = unet_spec(kShape);
  for (const std::string& isa : isas_here()) {
    for (const std::string& precision : kPrecisions) {
      const bool own =
          (isa == "avx512_bf16") <= (precision == "bf16") && (isa == "avx512_vnni") <= (precision == "int8");
      const std::string text = make({.threads = 1, .precision = precision, .isa = isa}).description(spec);
      CHECK(text == "native " + (own ? isa : "avx512") + ", " + precision + " weights, 1 thread");
    }
  }
  CHECK(make({.threads = 1}).description(spec).ends_with(", fp32 weights, 1 thread"));
}

void load(const UnetFolder& folder, const std::function<void(GraphSpec&, GraphSpec&)>& change = {}) {
  native::NativeEngine engine(EngineOptions{.threads = 1});
  GraphSpec film = film_graph(folder.shape, folder.spec), step = step_graph(folder.shape, folder.spec);
  if (change) change(film, step);
  engine.load(files_in(folder.path()), film, {film.rows});
  engine.load(files_in(folder.path()), step, {step.rows});
}

void graphs() {
  const UnetFolder folder(kShape, random_weights(kShape));
  load(folder);
  const auto refused = [&](const std::string& text,
                           const std::function<void(GraphSpec&, GraphSpec&)>& change) {
    CHECK_THROWS(BundleError, text, load(folder, change));
  };
  refused("film", [](GraphSpec& film, GraphSpec& step) {
    film.outputs[0].shape[1] += 2;
    step.inputs[2].shape[1] += 2;
  });
  refused("condition", [](GraphSpec& film, GraphSpec&) { film.inputs[0].shape[1] += 1; });
  refused("", [](GraphSpec&, GraphSpec& step) {  // another number of actions than the weights'
    step.inputs[0].shape[2] += 1;
    step.outputs[0].shape[2] += 1;
  });
  refused("", [](GraphSpec&, GraphSpec& step) { step.outputs[0].shape[1] += 2; });
  refused("", [](GraphSpec&, GraphSpec& step) { step.inputs[2].shape[0] = 2; });
  refused("", [](GraphSpec&, GraphSpec& step) { step.inputs.pop_back(); });
  refused("", [](GraphSpec&, GraphSpec& step) { step.inputs.erase(step.inputs.begin() + 1); });
  refused("", [](GraphSpec&, GraphSpec& step) {  // 7 actions cannot be halved
    step.inputs[0].shape[1] = step.outputs[0].shape[1] = 7;
  });
  refused("", [](GraphSpec&, GraphSpec& step) {
    step.inputs.push_back({"observation", DType::float32, {1, 4}, "observation.state"});
  });
  refused("", [](GraphSpec& film, GraphSpec&) { film.inputs.clear(); });
}

/// A file with something wrong is refused, and its fault named.
void refused(const std::string& file, const std::string& text, const std::string& precision = "fp32",
             const std::string& what = "") {
  const UnetFolder folder(kShape, random_weights(kShape), precision);
  write_file(folder.path() / folder.spec->file, file);
  const int before = failures;
  CHECK_THROWS(BundleError, text, load(folder));
  if (failures > before) std::fprintf(stderr, "  .. of %s\n", what.c_str());
}

/// The last value becomes `bad`.
void spoil(FileTensor& tensor, float bad) {
  const std::string bytes =
      tensor.dtype == "F32" ? bytes_of(std::vector{bad}) : bytes_of(std::vector{bf16_bits(bad)});
  tensor.bytes.replace(tensor.bytes.size() - bytes.size(), bytes.size(), bytes);
}

void tensors() {
  Chosen chosen;
  for (const std::string& precision : kPrecisions) {
    const FileTensors right = file_tensors(random_weights(kShape), precision);
    for (const auto& [name, tensor] : right) {
      if (!chosen.next()) continue;
      const auto changed = [&](const std::function<void(FileTensor&)>& change) {
        FileTensors tensors = right;
        change(tensors.at(name));
        refused(safetensors_file(tensors), name, precision);
      };
      FileTensors missing = right;
      missing.erase(name);
      refused(safetensors_file(missing), name, precision);
      changed([](FileTensor& t) { t.shape.push_back(1); });
      changed([](FileTensor& t) { t.shape = {static_cast<int>(t.bytes.size())}, t.dtype = "I8"; });
      changed([](FileTensor& t) { t.dtype = t.dtype == "F32" ? "I32" : t.dtype == "BF16" ? "F16" : "U8"; });
      changed([](FileTensor& t) { t.shape.back() *= 2, t.bytes += t.bytes; });
      changed([](FileTensor& t) { t.shape.back() = 0, t.bytes.clear(); });
      if (tensor.dtype == "I8") continue;
      for (const float bad : {HUGE_VALF, -HUGE_VALF, std::numeric_limits<float>::quiet_NaN()}) {
        changed([bad](FileTensor& t) { spoil(t, bad); });
      }
    }
  }
}

/// The file has less than the manifest says.
void lower_precision_than_promised() {
  const Weights weights = random_weights(kShape);
  refused(safetensors_file(file_tensors(weights, "bf16")), ".weight.dtype: expected F32, got BF16", "fp32");
  refused(safetensors_file(file_tensors(weights, "int8")), ".weight.dtype: expected F32, got I8", "fp32");
  refused(safetensors_file(file_tensors(weights, "int8")), ".weight.dtype: expected F32 or BF16, got I8",
          "bf16");
}

void files() {
  {
    const UnetFolder folder(kShape, random_weights(kShape));
    fs::remove(folder.path() / folder.spec->file);
    CHECK_THROWS(BundleError, "unet.safetensors", load(folder));
    fs::create_directory(folder.path() / folder.spec->file);
    CHECK_THROWS(BundleError, "unet.safetensors", load(folder));
  }
  const FileTensors tensors = file_tensors(random_weights(kShape), "fp32");
  const std::string right = safetensors_file(tensors), data = safetensors_data(tensors);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{9}, std::size_t{200},
        right.size() - data.size(), right.size() - 1}) {
    refused(right.substr(0, size), "unet.safetensors");
  }
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{right.size()}, std::uint64_t{1} << 31,
        std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    std::string file = right;
    std::memcpy(file.data(), &length, sizeof length);
    refused(file, "unet.safetensors");
  }
  const std::string nested = []() {
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += R"({"a":)";
    return text + "1" + std::string(200'000, '}');
  }();
  const auto entry = [](const std::string& shape, const std::string& offsets) {
    return "{" + kMetadata + R"(, "x": {"dtype": "F32", "shape": )" + shape + R"(, "data_offsets": )" +
           offsets + "}}";
  };
  for (const std::string& deep : {nested, std::string(100'000, '[') + std::string(100'000, ']')}) {
    for (const std::string& header :
         {entry(deep, "[0, 4]"), entry("[1]", deep), entry("[" + deep + "]", "[0, 4]"),
          "{\"__metadata__\": " + deep + "}", deep}) {
      refused(safetensors_file(header, data), "unet.safetensors: expected at most 32 levels, got more");
    }
  }
  const std::string wide = "[" + std::string(200'000, '9') + "]", text(200'000, 'x');
  refused(safetensors_file(entry(wide, "[0, 4]"), data), "unet.safetensors: expected valid JSON");
  refused(safetensors_file(entry('"' + text + '"', "[0, 4]"), data),
          "unet.safetensors.x.shape: expected an array, got \"xxx");
  refused(safetensors_file("\xef\xbb\xbf{" + kMetadata + "}", data), "a byte order mark");
  for (const std::string header :
       {"", "{", "{}", "[]", "null", "7", "\"text\"", "garbage!", "{\"a\": 1}", "[[]]"}) {
    refused(safetensors_file(header, data), "unet.safetensors");
  }
  refused(safetensors_file(std::string(1 << 20, '['), data), "unet.safetensors");
  refused(safetensors_file(std::string(64, '\0'), data), "unet.safetensors");
  refused(safetensors_file(std::string(64, '\xff'), data), "unet.safetensors");
}

/// int8: a scale that no weights have would make their integers meaningless.
void scales() {
  for (const float scale : {-0.01f, 3e38f}) {
    FileTensors tensors = file_tensors(random_weights(kShape), "int8");
    const std::string name = "down.0.0.first.0.weight.scale";
    FileTensor& changed = tensors.at(name);
    std::memcpy(changed.bytes.data(), &scale, sizeof scale);
    refused(safetensors_file(tensors), name + ": expected values of 0 or more", "int8");
  }
}

/// In the header of a right file.
void offsets() {
  const FileTensors tensors = file_tensors(random_weights(kShape), "fp32");
  const std::string right = safetensors_header(tensors), data = safetensors_data(tensors);
  const auto refused_with = [&](const std::string& from, const std::string& to) {
    std::string header = replaced(right, from, to);
    header.resize((header.size() + 7) / 8 * 8, ' ');
    refused(safetensors_file(header, data), "unet.safetensors", "fp32", to);
  };
  const auto bytes = static_cast<int>(tensors.begin()->second.bytes.size());  // of the first
  const std::string first = "[0, " + std::to_string(bytes) + "]";
  const auto offset = [&](const std::string& to) { refused_with(first, to); };
  offset("[4, " + std::to_string(bytes + 4) + "]");  // into the next tensor
  offset("[" + std::to_string(bytes) + ", 0]");
  offset("[-4, " + std::to_string(bytes - 4) + "]");
  offset("[0, " + std::to_string(bytes + 4) + "]");
  offset("[0, 18446744073709551615]");
  offset("[18446744073709551615, " + std::to_string(bytes - 1) + "]");
  offset("[" + std::to_string(data.size()) + ", " + std::to_string(data.size() + bytes) + "]");
  offset("[0]");
  offset("[]");
  offset("[0, \"" + std::to_string(bytes) + "\"]");
  offset("null");
  const std::string shape = "\"shape\": [" + std::to_string(tensors.begin()->second.shape[0]) + "]";
  for (const std::string other : {"[-1]", "[4294967296, 4294967296]", "[0]", "[9223372036854775807]",
                                  "[18446744073709551615]", "[\"8\"]", "8", "null", "[[8]]", "[]"}) {
    refused_with(shape, "\"shape\": " + other);
  }
  refused_with("\"version\": \"1\"", "\"version\": \"2\"");
  refused_with("keystep-unet1d", "another-format");
  refused_with(kMetadata + ", ", "");
}

}  // namespace

int main() {
  options();
  unets();
  describes_itself();
  graphs();
  tensors();
  lower_precision_than_promised();
  files();
  scales();
  offsets();
  return result();
}
