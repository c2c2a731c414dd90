// A compiled planner that writes code, asked once per control step: what runs a bundle of the family code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/code_events.hpp"
#include "keystep/engine.hpp"
#include "keystep/latency.hpp"
#include "keystep/observation.hpp"
#include "keystep/runtime.hpp"
#include "keystep/status.hpp"
#include "keystep/trace.hpp"

namespace keystep {

struct CodeOptions {
  EngineOptions engine{};
  std::optional<std::string> way{};   ///< greedy | early_stop | draft; none: as the manifest says
  std::optional<int> early_stop{};    ///< L characters, 1..65536; none: as the manifest says
  std::optional<int> every{};         ///< control steps between two questions, 1..65536; likewise
  std::optional<bool> constrained{};  ///< to code of the manifest's functions; none: as the manifest says
  double deadline_us = 0;             ///< of a step; 0: the control period
  std::shared_ptr<Attendant> attendant{};
  std::shared_ptr<Tracer> tracer{};  ///< what all sessions write into; none: no trace
};

/// One reply.
struct CodeReply {
  std::string text{};     ///< as it was written; not asked: the last key-step commented out, "" before it
  bool key_step = false;  ///< a line of it is not commented out: a new call, which is remembered
  bool asked = false;     ///< false: a step between two questions, for which nothing was computed
  bool ended = false;     ///< always, of a reply that is ok
  int tokens = 0;         ///< written; of an early stop those that told
  int passes = 0;         ///< runs of the decoder
};

/// One thread is inside at a time, as of `Runtime`: a second one is told `busy`.
class CodeRuntime {
 public:
  /// Loads and checks the bundle, opens the engine, sizes all memory. Throws BundleError, ProviderError,
  /// ArgumentError.
  explicit CodeRuntime(const std::filesystem::path& bundle, CodeOptions options = {});
  ~CodeRuntime();
  CodeRuntime(const CodeRuntime&) = delete;
  CodeRuntime& operator=(const CodeRuntime&) = delete;

  /// Another session on the same weights: a cache, memory and histograms of its own. Any thread. Throws
  /// PolicyError (closed, forked).
  std::unique_ptr<CodeRuntime> session(std::shared_ptr<Attendant> attendant = {}) const;

  const Bundle& bundle() const noexcept;
  const CodeOptions& options() const noexcept;
  const DecodingSpec& decoding() const noexcept;  ///< as the options and the manifest say
  std::string engine_description() const;
  const std::vector<EngineChoice>& engine_choices() const noexcept;
  CodeReply make_reply() const;  ///< with room for the longest, so that `ask` allocates nothing

  /// Starts an episode; `task` is one line of UTF-8. Throws ArgumentError, which leaves the episode before as
  /// it was (no text, too long for the context), PolicyError (closed, forked, busy).
  void reset(const std::string& task);
  /// One control step. `request`: asks for a key-step, whatever `every` says. What fails leaves the memory as
  /// it was, and the next `ask` tries again: `bad_observation`; `rejected_plan`: NaN in the logits, a reply
  /// without an end, no room for the key-steps where none may be forgotten; `engine_failure`; `interrupted`.
  /// Allocates nothing of our own but for an image in a larger size than before and for messages.
  Status ask(const Observation& observation, CodeReply& reply, bool request = false,
             std::string* message = nullptr) noexcept;
  /// While idle: decodes the next key-step beforehand, from what was seen last; questions are answered the
  /// same without it, key-steps slower. Does nothing where there is nothing to prepare.
  Status prepare(std::string* message = nullptr) noexcept;
  void interrupt() noexcept;                   ///< ends an `ask` or `prepare` in flight. Any thread
  void call_attention(bool at_once) noexcept;  ///< as of `Runtime`

  // Of the episode. They throw PolicyError (closed, forked, busy).
  std::string task() const;                 ///< "": before `reset`
  std::vector<std::string> memory() const;  ///< key-steps so far, as they were written
  std::string code() const;                 ///< the call that runs, the last of them; "": none yet
  std::string info() const;                 ///< those that store a pose. Source: algorithm 1
  std::vector<CodeEvent> events() const;    ///< the newest 128, the oldest first

  CodeCounts counts() const;
  /// `Stage::plan` are questions, `Stage::tick` steps. All 0 where `status` is busy.
  LatencyReport latency(Status* status = nullptr) const noexcept;
  Status reset_latency() noexcept;  ///< and the counts; ok, closed, forked or busy
  bool closed() const noexcept;     ///< any thread
  Status usable() const noexcept;   ///< ok, closed or forked; any thread
  void close() noexcept;            ///< as of `Runtime`

 private:
  friend struct CodeRuntimeInternals;  // a runtime with another engine
  struct Impl;
  explicit CodeRuntime(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
