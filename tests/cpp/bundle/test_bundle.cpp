// The loader reads what it should and refuses the rest, naming the field.
#include <random>

#include "bundle/sha256.hpp"
#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/keystep.hpp"
#include "support/readable.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

Bundle load(const std::string& manifest) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), manifest);
  return load_bundle(folder.path());
}

/// The manifest with one thing changed is refused, and the message says where and what.
void refused(const std::string& from, const std::string& to, const std::string& message) {
  CHECK_THROWS(BundleError, message, load(replaced(kManifest, from, to)));
}

void reads_every_field() {
  const Bundle bundle = load(kManifest);
  CHECK(bundle.name == "test" && bundle.family == "flat" && bundle.goal == "none");
  CHECK(bundle.control_rate_hz == 50.0);
  CHECK(bundle.observation.size() == 1);
  const FeatureSpec& state = bundle.observation[0];
  CHECK(state.key == "observation.state" && state.kind == "vector" && state.dtype == DType::float32);
  CHECK((state.shape == std::vector<std::int64_t>{3}) && state.history == 1 && state.name() == "state");
  CHECK((state.names == std::vector<std::string>{"x", "y", "z"}));
  CHECK((state.normalization.high_or_std == std::vector<double>{1, 2, 4}));
  CHECK(bundle.tasks.size() == 2 && bundle.tasks[1].instruction == "Push it.");
  CHECK((bundle.action.hold == std::vector<float>{0, 0.5f}) && bundle.action.rate_limit.empty());
  CHECK(bundle.chunk.horizon == 4 && bundle.chunk.execute == 3 && bundle.chunk.start == 0);
  CHECK(bundle.sampler->train_steps == 10 && bundle.sampler->clip_sample && bundle.sampler->eta == 0);
  CHECK(bundle.graphs.at("denoise").inputs[1].dtype == DType::int64);
  CHECK(bundle.graphs.at("encode").outputs[0].elements() == 6);
  CHECK(bundle.manifest_json.find("\"anything\"") != std::string::npos);
}

void reads_every_form() {
  CHECK(load(guided(kManifest, 3)).sampler->guidance == 3);
  CHECK(load(guided(kManifest, 3)).graphs.at("encode").outputs[0].shape[0] == 2);
  const std::string camera = with_camera_and_goal(kManifest);
  CHECK((load(camera).observation[1].shape == std::vector<std::int64_t>{2, 3, 3}));
  CHECK(!load(camera).observation[1].resize && load(camera).observation[1].dtype == DType::uint8);
  CHECK(load(replaced(camera, "\"resize\": false", "\"resize\": true")).observation[1].resize);
  CHECK(load(with_depth(kManifest)).observation[1].kind == "depth");
  CHECK(load(with_history(kManifest)).observation[0].history == 2);
  CHECK(load(replaced(kManifest, "\"start\": 0", "\"start\": 1")).chunk.start == 1);
}

void refuses_wrong_versions_and_keys() {
  const auto version = [](const std::string& number, const std::string& message) {
    refused("\"version\": 5", "\"version\": " + number, "version: expected " + message);
  };
  version("6", "5, got 6 (a newer keystep wrote this bundle)");
  version("4", "5, got 4 (run `keystep upgrade BUNDLE`)");
  version("3", "5, got 3 (run `keystep upgrade BUNDLE`)");
  for (const char* number : {"2", "1"}) version(number, "5, got " + std::string(number) + " (too old to");
  version("0", "an integer");
  version("\"5\"", "an integer");
  refused("keystep-bundle", "lerobot", "format: expected \"keystep-bundle\", got \"lerobot\"");
  refused("\"goal\"", "\"normalization\": {}, \"goal\"", "normalization: expected one of the keys format, ");
  refused("\"goal\": \"none\",", "", "goal: expected a value, got no such key");
  refused("\"merge\"", "\"x\": 1, \"merge\"",
          "chunk.x: expected one of the keys horizon, execute, start, merge");
  refused("\"eta\"", "\"etta\": 0, \"eta\"", "sampler.etta: expected one of the keys");
  refused("\"eta\": 0.0,", "", "sampler.eta: expected a value");
  refused("\"role\": \"sample\"", "\"role\": \"sample\", \"x\": 1", "graphs.denoise.inputs[0].x");
  refused("\"denoise\": {", "\"vision\": {", "graphs.vision: expected no such key (family flat)");
  refused("\"denoise\": {", "\"look\": {", "graphs.look: expected one of the keys encode, film, denoise");
  refused("\"denoise\": {", "\"sample\": {", "graphs.sample: expected one of the keys encode, film, denoise");
  refused("\"units\"", "\"unit\"", "action.units: expected a value");
  refused("\"names\": [\"x\"", "\"x\": 1, \"names\": [\"x\"",
          "observation[0].x: expected one of the keys key, ");
  refused("{\"mode\": \"mean_std\"", "{\"max\": [1], \"mode\": \"mean_std\"",
          "observation[0].normalization.max");
  refused("\"name\": \"lift\"", "\"id\": 3, \"name\": \"lift\"", "tasks[0].id");
  refused("{\"file\": \"golden", "{\"x\": 1, \"file\": \"golden", "golden.x");
  refused("\"goal\"", "\"name\": \"twice\", \"goal\"",
          "manifest.json: expected each key once, got 'name' twice");
}

void refuses_wrong_types_and_values() {
  refused("50.0", "\"fast\"", "control_rate_hz: expected a finite number, got \"fast\"");
  refused("50.0", "0", "control_rate_hz: expected a rate");
  refused("50.0", "1e999", "manifest.json: expected valid JSON");
  refused("50.0", "NaN", "manifest.json: expected valid JSON");
  refused("\"horizon\": 4", "\"horizon\": 4.0", "chunk.horizon: expected an integer in 1..65536, got 4.0");
  refused("\"horizon\": 4", "\"horizon\": 18446744073709551615", "chunk.horizon: expected an integer");
  refused("\"execute\": 3", "\"execute\": 5", "chunk.execute: expected an integer in 1..4, got 5");
  refused("consumed_index", "blend",
          "chunk.merge: expected consumed_index | temporal_ensemble, got \"blend\"");
  refused("consumed_index", "temporal_ensemble",
          "chunk.execute: expected 1 (merge is temporal_ensemble), got 3");
  const std::string chunk = R"("execute": 3, "start": 0, "merge": "consumed_index")";
  const std::string averages = R"("execute": 1, "start": 0, "merge": "temporal_ensemble")";
  refused(chunk, averages, "chunk.ensemble_decay: expected a value, got no such key");
  refused(chunk, averages + R"(, "ensemble_decay": 126)",
          "chunk.ensemble_decay: expected -125..125, got 126");
  refused(chunk, chunk + R"(, "ensemble_decay": 0.1)",
          "chunk.ensemble_decay: expected none (merge is consumed_index), got 0.1");
  refused("flat", "flatt", "family: expected flat");
  refused("\"clip_sample\": true", "\"clip_sample\": 1",
          "sampler.clip_sample: expected true or false, got 1");
  refused("\"inference_steps\": 3", "\"inference_steps\": 0", "sampler.inference_steps: expected");
  refused("\"inference_steps\": 3", "\"inference_steps\": 11", "sampler.inference_steps: expected");
  refused("squaredcos_cap_v2", "cosine", "sampler.beta_schedule: expected");
  refused("epsilon", "noise", "sampler.prediction: expected");
  refused("\"eta\": 0.0", "\"eta\": 2", "sampler.eta: expected");
  std::string accents = "x";  // a message is cut, but never inside a character
  for (int i = 0; i < 60; ++i) accents += "\u00e9";
  refused("flat", accents, "got \"x\\u00e9\\u00e9");
  refused("\"values\": [0,", "\"values\": [1e39,", "action.hold.values[0]: expected a finite number");
}

void refuses_wrong_lengths_and_ranges() {
  refused("\"units\": [\"m\", ", "\"units\": [", "action.units: expected 2 values, got 1");
  refused("\"min\": [-100,", "\"min\": [1, -100,", "action.min: expected 2 values, got 3");
  refused("\"min\": [-100,", "\"min\": [100,", "action.max[0]: expected more than the minimum");
  refused("\"values\": [0,", "\"values\": [101,", "action.hold.values[0]: expected a value in");
  refused("\"rate_limit\": null", "\"rate_limit\": [1]", "action.rate_limit: expected 2 values, got 1");
  refused("\"rate_limit\": null", "\"rate_limit\": [1, 0]",
          "action.rate_limit[1]: expected a positive change");
  refused("\"mean\": [1,", "\"mean\": [", "observation[0].normalization.mean: expected 3 values, got 2");
  refused("\"std\": [1,", "\"std\": [0,",
          "observation[0].normalization.std[0]: expected a positive deviation, got 0");
  refused("\"std\": [1,", "\"std\": [1e-320,", "observation[0].normalization.std[0]");
  refused("\"max\": [2,", "\"max\": [-2,", "action.normalization.max[0]: expected more than the minimum");
  refused("[\"x\", \"y\"", "[\"x\", \"x\"", "observation[0].names[1]: expected unique names, got 'x' again");
  refused("\"name\": \"push\"", "\"name\": \"lift\"", "tasks[1]: expected unique names");
  refused("\"name\": \"push\"", "\"name\": \"pu\\u0000sh\"", "tasks[1].name: expected text, got a NUL at 2");
  refused("Push it.", "\\u0000", "tasks[1].instruction: expected text, got a NUL at 0");
}

void quantiles() {
  const std::string min_max = R"({"mode": "min_max", "min": [-2, 0], "max": [2, 10]})";
  const auto with = [&](const std::string& entry) { return replaced(kManifest, min_max, entry); };
  const std::string quantile = R"({"mode": "quantile", "low": [-2, 0], "high": [2, 10]})";
  const Normalization read = load(with(quantile)).action.normalization;
  CHECK(read.mode == "quantile" && read.low_or_mean[1] == 0 && read.high_or_std[1] == 10);
  const std::string field = "action.normalization";
  CHECK_THROWS(BundleError, field + ".low: expected a value",
               load(with(replaced(min_max, "min_max", "quantile"))));
  CHECK_THROWS(BundleError, field + ".high[1]: expected more than the low one",
               load(with(replaced(quantile, "10", "0"))));
  CHECK_THROWS(BundleError, field + ".low: expected 2 values, got 1",
               load(with(replaced(quantile, "-2, 0", "-2"))));
  CHECK_THROWS(BundleError, field + ".low[0]: expected a finite number",
               load(with(replaced(quantile, "-2, 0", "null, 0"))));
}

void refuses_wrong_features() {
  const auto refused_in = [](const std::string& manifest, const std::string& from, const std::string& to,
                             const std::string& message) {
    CHECK_THROWS(BundleError, message, load(replaced(manifest, from, to)));
  };
  const std::string camera = with_camera_and_goal(kManifest), depth = with_depth(kManifest);
  refused_in(kManifest, "\"kind\": \"vector\"", "\"kind\": \"sound\"",
             "observation[0].kind: expected vector | rgb | depth, got \"sound\"");
  refused_in(kManifest, "\"key\": \"observation.state\"", "\"key\": \"state\"",
             "observation[0].key: expected observation.<name>, got \"state\"");
  refused_in(kManifest, "\"key\": \"observation.state\"", "\"key\": \"observation.\"", "observation[0].key");
  refused_in(camera, "\"key\": \"observation.images.static\"", "\"key\": \"observation.state\"",
             "observation[1].key: expected unique keys, got 'observation.state' again");
  refused_in(kManifest, "\"dtype\": \"float32\", \"shape\": [3]", "\"dtype\": \"uint8\", \"shape\": [3]",
             "observation[0].dtype: expected float32, got \"uint8\"");
  for (const char* shape : {"[]", "[3, 1]"}) {
    refused_in(kManifest, "\"shape\": [3]", std::string("\"shape\": ") + shape,
               "observation[0].shape: expected [S], got an array of ");
  }
  refused_in(kManifest, "\"shape\": [3]", "\"shape\": [0]",
             "observation[0].shape[0]: expected an integer in 1..");
  refused_in(kManifest, "\"shape\": [3]", "\"shape\": [4]", "observation[0].names: expected 4 values, got 3");
  refused_in(kManifest, "\"names\": [\"x\", \"y\", \"z\"],", "", "observation[0].names: expected a value");
  refused_in(kManifest, "\"history\": 1", "\"history\": 0",
             "observation[0].history: expected an integer in 1..1024, got 0");
  refused_in(kManifest, "\"history\": 1", "\"history\": 3",
             "graphs.encode.inputs[0].shape: expected [1, 3, 3] (observation.state), got [1, 3]");
  refused_in(camera, "[2, 3, 3]", "[2, 3, 4]", "observation[1].shape: expected [height, width, 3]");
  refused_in(camera, "[2, 3, 3]", "[3, 2, 3]",
             "graphs.encode.inputs[2].shape: expected [1, 3, 3, 2] (observation.images.static)");
  refused_in(camera, "[2, 3, 3]", "[16385, 3, 3]",
             "observation[1].shape[0]: expected an integer in 1..16384");
  refused_in(camera, " \"resize\": false,", "", "observation[1].resize: expected a value");
  refused_in(camera, "\"resize\": false", "\"resize\": 0", "observation[1].resize: expected true or false");
  refused_in(camera, "[0.5, 1, 1]", "[0.5, 1]", "observation[1].normalization.std: expected 3 values, got 2");
  refused_in(depth, "\"shape\": [2, 4]", "\"shape\": [2, 4, 1]",
             "observation[1].shape: expected [height, width]");
  refused_in(depth, "\"kind\": \"depth\",", "\"kind\": \"depth\", \"resize\": true,",
             "observation[1].resize: expected one of the keys key, ");
  refused_in(depth, "\"max\": [2]}", "\"max\": [2, 2]}",
             "observation[1].normalization.max: expected 1 values, got 2");
  const auto first = kManifest.find("    {\"key\""), end = kManifest.find("],\n  \"goal\"");
  CHECK_THROWS(BundleError, "observation: expected at least one feature, got none",
               load(std::string(kManifest).erase(first, end - first)));
  refused("\"start\": 0", "\"start\": 2", "chunk.start: expected an integer in 0..1, got 2");
  refused("\"start\": 0", "\"start\": -1", "chunk.start: expected an integer in 0..1, got -1");
}

void refuses_wrong_tensors() {
  refused("[1, 4, 2], \"role\": \"sample\"", "[1, 8, 2], \"role\": \"sample\"",
          "graphs.denoise.inputs[0].shape: expected [1, 4, 2] (sample), got [1, 8, 2]");
  refused("[1, 3], \"role\": \"observation.state\"", "[1, 4], \"role\": \"observation.state\"",
          "graphs.encode.inputs[0].shape: expected [1, 3]");
  refused("\"role\": \"sample\"", "\"role\": \"latent\"",
          "graphs.denoise.inputs[0].role: expected one of condition, ");
  refused("\"role\": \"timestep\"", "\"role\": \"sample\"",
          "graphs.denoise.inputs[1].dtype: expected float32, got int64");
  refused("\"name\": \"t\"", "\"name\": \"noisy\"", "graphs.denoise.inputs[1].name: expected unique names");
  refused("\"int64\", \"shape\": [1], \"role\": \"timestep\"",
          "\"float16\", \"shape\": [1], \"role\": \"timestep\"",
          "graphs.denoise.inputs[1].dtype: expected float32 | int64 | uint8");
  refused("\"shape\": [1, 6]", "\"shape\": [1, 7]",
          "graphs.denoise.inputs[2].shape: expected [1, 7] (as encode writes");
  refused("\"name\": \"film\"", "\"name\": \"scale\"",
          "graphs.denoise.inputs[2].name: expected an output of encode");
  refused("\"shape\": [1, 6]", "\"shape\": [1, -6]",
          "graphs.encode.outputs[0].shape[1]: expected an integer in 1..");
  refused("\"shape\": [1, 6]", "\"shape\": [65536, 65536]", "graphs.encode.outputs[0].shape[1]");
  refused("\"name\": \"eps\"", "\"name\": \"task\"", "graphs.encode: expected tensor 'task' in the role");
  refused("{\"name\": \"t\", \"dtype\": \"int64\", \"shape\": [1], \"role\": \"timestep\"},", "",
          "graphs.denoise.inputs: expected a tensor with the role timestep");
  refused("\"goal\": \"none\"", "\"goal\": \"observation\"",
          "graphs.encode.inputs: expected a tensor with a role goal.*");
  CHECK_THROWS(BundleError, "graphs.denoise.inputs[0].shape: expected [2, 4, 2]",
               load(replaced(kManifest, "\"guidance\": 0.0", "\"guidance\": 1.0")));
}

void refuses_damaged_manifests() {
  const TemporaryFolder folder;
  CHECK_THROWS(BundleError, "expected a bundle folder", load_bundle(folder.path() / "none.keystep"));
  const TemporaryFolder checkpoint;
  write_file(checkpoint.path() / "policy.json", "{}");
  CHECK_THROWS(BundleError, "of which keystep export makes a bundle", load_bundle(checkpoint.path()));
  CHECK_THROWS(BundleError, "manifest.json: expected a file inside the bundle", load_bundle(folder.path()));
  CHECK_THROWS(BundleError, "manifest.json: expected valid JSON", load(kManifest.substr(0, 700)));
  CHECK_THROWS(BundleError, "manifest.json: expected valid JSON", load(kManifest + "{}"));
  CHECK_THROWS(BundleError, "format: expected a value", load("[]"));
  CHECK_THROWS(BundleError, "manifest.json: expected at most 32 levels", load(std::string(100000, '[')));
  CHECK_THROWS(BundleError, "manifest.json: expected at most 32 levels",
               load(replaced(kManifest, "[1, 2, null]", std::string(40, '[') + std::string(40, ']'))));
  CHECK_THROWS(BundleError, "manifest.json: expected JSON in UTF-8 without a byte order mark",
               load("\xef\xbb\xbf" + kManifest));
  refused("\"name\": \"test\"", "\"name\": \"\xff\"", "ill-formed UTF-8 byte; last read: '\"\\xff'");
  refused("\"name\": \"test\"", "\"name\": \"\\ud800\"", "manifest.json: expected valid JSON");
  refused("\"goal\"", "\"go\\u0000al\": 1, \"goal\"", "go\\x00al: expected one of the keys");
  refused("\"goal\"", "\"" + std::string(1 << 20, 'k') + "\": 1, \"goal\"",
          "kkk...: expected one of the keys");
}

/// Whatever a message quotes, it is short, valid UTF-8 and whole as a C string.
void messages_are_readable() {
  const auto what = [](const std::string& message) { return std::string(Error(message).what()); };
  CHECK(what("plain é\n\U0001f600") == "plain é\n\U0001f600");
  CHECK(what(std::string("a\0b\xff\x1b", 5)) == "a\\x00b\\xff\\x1b");
  // Overlong, a surrogate, beyond the last character, cut short.
  CHECK(what("\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82") ==
        "\\xc0\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 \\xe2\\x82");
  CHECK(what(std::string(1 << 20, '\xff')).size() <= 2000);
  CHECK(readable("a\xc2\x9b\xc2\xa0") == "a\\xc2\\x9b\xc2\xa0");  // C1 speaks to terminals, too
  CHECK(readable("abcdef", 6) == "abcdef" && readable("abcdefg", 6) == "abc..." &&
        readable("aééé", 6) == "aé...");
}

/// Tensors together, in any number of graphs; a condition that two graphs share counts once.
void bounds_the_memory_of_tensors() {
  const auto wide = [](const std::string& width) {
    std::string manifest = kManifest;
    for (const char* name : {"\"film\""}) {
      for (std::size_t at = manifest.find(name); at != std::string::npos; at = manifest.find(name, at + 1)) {
        const std::size_t shape = manifest.find("[1, 6]", at);
        if (shape != std::string::npos) manifest.replace(shape, 6, "[1, " + width + "]");
      }
    }
    return manifest;
  };
  CHECK(load(wide("268000000")).graphs.size() == 2);
  CHECK_THROWS(BundleError, "graphs: expected tensors of at most 1073741824 bytes together, got ",
               load(wide("268435456")));
}

void refuses_damaged_files() {
  const TemporaryFolder folder;
  write_bundle(folder.path());
  write_file(folder.path() / "denoise.onnx", "denoise grap");
  CHECK_THROWS(BundleError, "graphs.denoise.sha256: expected ", load_bundle(folder.path()));
  CHECK_THROWS(BundleError, "(denoise.onnx is damaged or was changed)", load_bundle(folder.path()));
  write_file(folder.path() / "denoise.onnx", "");
  CHECK_THROWS(BundleError,
               "graphs.denoise.file: expected a file inside the bundle, got 'denoise.onnx', which is empty",
               load_bundle(folder.path()));
  fs::remove(folder.path() / "denoise.onnx");
  CHECK_THROWS(BundleError, "'denoise.onnx', which cannot be opened", load_bundle(folder.path()));
  write_bundle(folder.path());
  write_file(folder.path() / "golden.npz", "other");
  CHECK_THROWS(BundleError, "golden.sha256", load_bundle(folder.path()));
  refused("ENCODE_HASH", "ABCD", "graphs.encode.sha256: expected 64 lower-case hexadecimal digits");
}

void refuses_paths_that_leave_the_folder() {
  for (const auto& [path, message] :
       std::vector<std::pair<std::string, std::string>>{{"/etc/hostname", "is absolute"},
                                                        {"../encode.onnx", "leaves the bundle"},
                                                        {"a/../../encode.onnx", "leaves the bundle"},
                                                        {"", "is empty"},
                                                        {".", "is not a regular file"},
                                                        {"..", "leaves the bundle"},
                                                        {"encode.onnx\\u0000x", "holds a NUL"}}) {
    refused("\"file\": \"encode.onnx\"", "\"file\": \"" + path + "\"", message);
  }
  const TemporaryFolder outside, folder;
  write_bundle(outside.path());
  const auto link = [&](const char* name) {
    write_bundle(folder.path());
    fs::remove(folder.path() / name);
    fs::create_symlink(outside.path() / name, folder.path() / name);
  };
  for (const char* name : {"encode.onnx", "golden.npz", "manifest.json"}) {
    link(name);
    CHECK_THROWS(BundleError, "is a link out of the bundle", load_bundle(folder.path()));
    fs::remove(folder.path() / name);
  }
}

void follows_links_that_stay_inside() {
  const TemporaryFolder folder;
  write_bundle(folder.path() / "real.keystep");
  fs::rename(folder.path() / "real.keystep/encode.onnx", folder.path() / "real.keystep/other.onnx");
  fs::create_symlink("other.onnx", folder.path() / "real.keystep/encode.onnx");
  fs::create_directory_symlink("real.keystep", folder.path() / "latest.keystep");
  CHECK(load_bundle(folder.path() / "latest.keystep").name == "test");
}

void hashes_as_fips_180_4() {
  const TemporaryFolder folder;
  const auto hash = [&](const std::string& text) {
    write_file(folder.path() / "f", text);
    return sha256_file(folder.path() / "f");
  };
  CHECK(hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hash(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK_THROWS(BundleError, "expected a readable file", sha256_file(folder.path() / "none"));
}

/// By the CPU's instructions as by the portable code, whatever the pieces.
void hashes_alike_with_and_without_instructions() {
  if (sha256_by_instructions() == nullptr) std::printf("no SHA instructions here: the portable code alone\n");
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    std::vector<std::byte> data(random() % 2000);
    for (std::byte& byte : data) byte = static_cast<std::byte>(random());
    Sha256 fast, portable(&sha256_portable);
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t piece = std::min<std::size_t>(random() % 200, data.size() - at);
      fast.update(std::span(data).subspan(at, piece));
      at += piece;
    }
    portable.update(data);
    CHECK(fast.finish() == portable.finish());
  }
}

}  // namespace

int main() {
  reads_every_field();
  reads_every_form();
  refuses_wrong_versions_and_keys();
  refuses_wrong_types_and_values();
  refuses_wrong_lengths_and_ranges();
  quantiles();
  refuses_wrong_features();
  refuses_wrong_tensors();
  refuses_damaged_manifests();
  messages_are_readable();
  bounds_the_memory_of_tensors();
  refuses_damaged_files();
  refuses_paths_that_leave_the_folder();
  follows_links_that_stay_inside();
  hashes_as_fips_180_4();
  hashes_alike_with_and_without_instructions();
  return result();
}
