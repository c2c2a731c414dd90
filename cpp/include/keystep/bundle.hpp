// The manifest as plain structs, and the loader that refuses everything it does not know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keystep/code_planner_spec.hpp"
#include "keystep/dtype.hpp"
#include "keystep/normalization.hpp"
#include "keystep/sampler.hpp"

namespace keystep {

inline constexpr int kManifestVersion = 5;  ///< no other is read; `keystep upgrade` brings 3 and 4 to it

/// One input or output of a graph. Tensors of equal name in two graphs are one buffer: nothing is copied
/// between them.
struct TensorSpec {
  std::string name;
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;  ///< fixed, all positive
  std::string role;                 ///< what the runtime puts there, see docs/bundle.md
  std::size_t elements() const noexcept;
};

/// A file of the bundle's folder.
struct FileSpec {
  std::string file, sha256;
};

/// A file's bytes in memory, aligned to 64.
class FileContent {
 public:
  explicit FileContent(std::size_t size);  ///< uninitialised
  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_;
};
using Files = std::map<std::string, std::shared_ptr<const FileContent>>;  ///< by name in the manifest

/// Difference to torch over the golden cases, in network units (normalised actions or plans).
struct UnetError {
  double max = 0, rms = 0;
};

/// The weights of a 1-D conditional U-Net beside its graphs, for engines with kernels of their own.
struct UnetSpec {
  std::string kind;  ///< "conditional_unet1d"; engines leave others to the graphs
  std::string file;  ///< safetensors, see docs/bundle.md
  std::string sha256;
  std::vector<int> down_dims;  ///< channels per level
  int kernel_size = 0, groups = 0;
  bool film_scale = true;                   ///< FiLM has a scale beside its bias
  int horizon = 0;                          ///< rows of a sample
  int condition = 0;                        ///< width of the condition that `film` projects
  std::string precision;                    ///< fp32 | bf16 | int8, of the weights in the file
  std::map<std::string, UnetError> errors;  ///< by precision; none: not measured
  int train_steps = 0;                      ///< of the sampler
};

struct GraphSpec {
  std::string file;
  std::string sha256;
  std::vector<TensorSpec> inputs, outputs;
  std::shared_ptr<const UnetSpec> unet{};  ///< what `film` and `denoise` compute; null: only the file knows
  std::vector<FileSpec> external{};        ///< the graph's weights that are files of their own
  int rows = 1;  ///< samples in one batch: the leading extent of samples, their outputs and conditions
  bool any_rows = false;  ///< the file may leave that extent open
};

inline constexpr int kMaxImageExtent = 16384;  ///< pixels a side, of images in and before resizing

/// What the policy observes: a vector or an image. The network sees its last `history` frames, oldest first,
/// which the runtime keeps.
struct FeatureSpec {
  std::string key;   ///< "observation.<name>"
  std::string kind;  ///< vector | rgb | depth
  DType dtype = DType::float32;
  std::vector<std::int64_t>
      shape;  ///< of one frame as it is given: {S} | {height, width, 3} | {height, width}
  int history = 1;
  std::vector<std::string> names;  ///< of a vector's values; empty: an image
  bool resize = false;             ///< images of another size are resized; if false they are refused
  Normalization normalization;     ///< of a vector per value, of an image per channel
  std::string name() const;        ///< of the key
};

/// Of actions that the network makes relative to what is observed: the value is added to every row of a
/// chunk.
struct RelativeSpec {
  std::string feature;      ///< the key of a vector
  std::vector<int> values;  ///< by action: which of its values; -1: none, the action is absolute
};

struct ActionSpec {
  std::vector<std::string> names, units;
  std::vector<float> min, max;       ///< bounds the safety gate enforces
  std::vector<float> rate_limit;     ///< greatest change per action; empty: none
  std::vector<float> hold;           ///< mode values: the action that keeps the robot where it is; else empty
  std::string hold_mode = "values";  ///< what a tick that fails gives: values | last (the last action given)
  Normalization normalization{};
  std::optional<RelativeSpec>
      relative{};  ///< none: all are absolute. Everything else here is of absolute ones
};

struct TaskSpec {
  std::string name, instruction;
};

struct ChunkSpec {
  int horizon = 0, execute = 0;
  int start = 0;  ///< the row that belongs to the present observation: the first that is executed
  /// How chunks join. consumed_index: one after the other; temporal_ensemble (ACT, `execute` is 1): an action
  /// is the weighted mean of all chunks that know it.
  std::string merge = "consumed_index";
  double ensemble_decay = 0.01;  ///< of temporal_ensemble: m of the weights exp(-m i), i = 0 the oldest chunk
  int max_delay = 0;  ///< rows that a chunk may be given of the one before; 0: it was not trained for it
};

/// Says which of several plans is most likely to succeed: the graph `score`.
struct ScorerSpec {
  std::int64_t plans = 0;  ///< tried ones that it was trained on; 0: never trained
  double auc = 0;          ///< on contexts that it was not trained on, 0..1
};

/// Of family subgoal: a plan is `subgoals` observations, each held for `steps_per_subgoal` actions.
struct PlannerSpec {
  int subgoals = 0, steps_per_subgoal = 0;
  /// The asynchronous loop asks for a plan so many actions before the old one is used up; -1: as many as
  /// recent plans and chunks took.
  int plan_ahead = -1;
  bool replan = true;           ///< plan anew when the plan is used up; if false the last subgoal stays
  bool guided = false;          ///< the graphs carry the unconditional row; if false guidance must be 0
  std::string subgoal;          ///< the key of the feature that a subgoal is
  Normalization normalization;  ///< of that key, in the planner's own network values
  SamplerSpec sampler;          ///< its guidance is what `reset` takes unless told otherwise
  std::optional<ScorerSpec> scorer{};  ///< exactly where there is a graph `score`
  std::string text_encoder;            ///< for inspection
  std::size_t max_text_bytes = 0;
};

struct Bundle {
  std::filesystem::path folder;
  std::string name, family;  ///< family: flat | subgoal | code
  double control_rate_hz = 0;
  std::vector<FeatureSpec> observation;
  std::string goal;  ///< none | observation: a goal observation is given to `reset` | text: else
  std::vector<TaskSpec> tasks;
  ActionSpec action;
  ChunkSpec chunk;
  std::optional<PlannerSpec> planner;       ///< exactly in the family subgoal
  std::optional<CodePlannerSpec> code{};    ///< exactly in the family code, which has no action and no chunk
  std::optional<SamplerSpec> sampler;       ///< none for a controller that is one graph `act`
  std::map<std::string, GraphSpec> graphs;  ///< see docs/bundle.md
  FileSpec golden;
  std::string manifest_json;  ///< verbatim, for inspection
  /// What engines load: of the hashes that the manifest gives. Not needed once they have.
  Files files;
};

/// The controller's graph that takes the observation: `act`, or else `encode`.
const GraphSpec& observing_graph(const Bundle& bundle);
/// The index in `observation` of the feature that a subgoal is. Throws ArgumentError without a planner.
std::size_t subgoal_index(const Bundle& bundle);
/// A subgoal as network values: {S} of a vector, or {3, height, width}. Throws ArgumentError without a
/// planner.
std::vector<std::int64_t> subgoal_shape(const Bundle& bundle);
std::size_t subgoal_size(const Bundle& bundle);  ///< its number of values

/// Index in `tasks` of the one with this name or, word for word, this instruction. Throws ArgumentError,
/// which lists the names and the nearest.
int find_task(const Bundle& bundle, const std::string& task);
/// Whether an episode without subgoals of its own has to say what it is about.
bool needs_task(const Bundle& bundle);

/// manifest.json as it stands: a regular file inside the folder of at most 16 MiB, otherwise unchecked.
/// Throws BundleError.
std::string manifest_text(const std::filesystem::path& folder);
/// Reads and checks `folder/manifest.json` and the hash of every file it names. `files` has the content of
/// all but the golden data. Throws BundleError.
Bundle load_bundle(const std::filesystem::path& folder);
/// The same without keeping any content.
Bundle check_bundle(const std::filesystem::path& folder);

/// Looks through the graphs in `bundle.files` for files that they name and the manifest does not, as engines
/// do when they load one. Throws BundleError.
void check_external(const Bundle& bundle);

/// The content of a file of `files`. Throws BundleError if it is not there.
const FileContent& content_of(const Files& files, const std::string& name);

/// What `load_bundle` says of a manifest (JSON), without the files it names. Throws BundleError.
void check_manifest(const std::string& manifest);

/// Lower-case hexadecimal SHA-256 of a file (FIPS 180-4). Throws BundleError if it cannot be read.
std::string sha256_file(const std::filesystem::path& file);

}  // namespace keystep
