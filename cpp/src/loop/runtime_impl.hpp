// What a runtime is made of. runtime_tick.cpp has the loop, runtime.cpp the public face.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keystep/chunk_buffer.hpp"
#include "keystep/runtime.hpp"
#include "keystep/safety_gate.hpp"
#include "loop/async/async_loop.hpp"
#include "loop/latency_recorder.hpp"
#include "loop/loop_trace.hpp"
#include "loop/runtime_internals.hpp"
#include "loop/session_base.hpp"
#include "loop/virtual/virtual_threads.hpp"
#include "loop/virtual/virtual_wait.hpp"
#include "policy/controller.hpp"
#include "policy/planner.hpp"
#include "policy/policy.hpp"

namespace keystep {

inline constexpr const char* kOthersAtWork =
    "mode: expected lockstep, where the caller computes, got async, whose threads are at work";

/// A plan that is refused may be so by the controller: no message of the planner belongs to it.
inline const char* said(Status status, const std::string& error) noexcept {
  return status == Status::rejected_plan ? "" : error.c_str();
}

struct Runtime::Impl : SessionBase {
  Impl(std::shared_ptr<const Policy> shared, std::shared_ptr<Attendant> attendant,
       const PlannerFactory& factory);

  bool admits_reader(Status* told) const noexcept;
  LatencyReport report(const GateCounts& counts) const noexcept;
  Status tick(const Observation& observation, Action& action) noexcept;
  Status tick_async(const Observation& observation, Action& action) noexcept;
  Status tick_slow(const Observation& observation, Action& action) noexcept;
  Status tick_in_mode(const Observation& observation, Action& action) noexcept;
  Status note(const Observation& observation) noexcept;
  PlanReply ask(const Observation& observation, std::int64_t at) noexcept;
  std::span<const float> take() noexcept;
  void drop_chunks() noexcept;
  Status renew(const Observation& observation) noexcept;
  Status make_chunk(const Observation& observation) noexcept;
  Status serve_chunk(std::span<const Observation> frames, const ChunkRequest& request, std::span<float> rows,
                     ServedChunk& served) noexcept;
  Status check_request(std::span<const Observation> frames, const ChunkRequest& request,
                       std::span<float> rows) noexcept;
  std::int64_t index_to_ask_for(const ChunkRequest& request) const noexcept;
  Status predict_chunk(const Observation& observation, std::span<const float> noise,
                       const Continuation& continuation, std::span<float> out) noexcept;
  Status predict_plan(const Observation& observation, std::span<const float> noise,
                      std::span<float> out) noexcept;
  Status predict_candidates(const Observation& observation, std::span<const float> noise,
                            PlanCandidates& out) noexcept;
  template <class Work>
  Status plan_ahead(const Observation& observation, std::span<const float> noise, std::size_t values,
                    const Work& work) noexcept;
  void interrupt() noexcept;
  void call_attention(bool at_once) noexcept;
  void terminate() noexcept;
  void absorb_interrupts() noexcept;
  Status check_noise(std::span<const float> noise) noexcept;
  Status check_stamp(const Observation& observation) noexcept;
  Status refuse(const char* field, const char* wanted, std::int64_t got) noexcept;
  Epoch epoch_of_tick() noexcept { return {epoch, at_epoch, &attention}; }
  Epoch epoch_of_call() noexcept { return {epoch, epoch.load(), &attention}; }
  Status wrong(const char* field, const std::string& wanted, std::int64_t got) noexcept;
  Status wrong_size(const char* field, std::size_t wanted, std::size_t got) noexcept;

  // What all sessions share. Freed by close: whoever closes last frees the weights.
  std::shared_ptr<const Policy> policy;
  const std::shared_ptr<const Bundle> shared_bundle;
  const Bundle& bundle;
  const RuntimeOptions options;
  const std::string description;  // of the engine
  const std::vector<EngineChoice> choices;
  const PlannerFactory make_planner;
  const bool external_clock, holds_last;

  // This session's.
  std::unique_ptr<Tensors> tensors, planner_tensors;  // the planner's own where it has a thread of its own
  std::unique_ptr<Controller> controller;             // freed by close, with the tensors
  std::unique_ptr<Planner> planner;                   // likewise
  const std::size_t plan_size;                        // values of a plan, 0 without a planner
  ChunkBuffer buffer;
  std::optional<ActionQueue> ensemble;  // of lockstep that averages: all chunks that know an action
  SafetyGate gate;
  std::vector<float> chunk;
  const std::size_t first_value;  // of `chunk` that is executed
  const std::vector<float>
      unheld;  // what is held before an episode's first action; NaN: there is none to hold

  // The episode.
  NoiseKey key;                     // chunk counts renewals
  std::string about;                // a task's name or an instruction
  std::uint64_t at_epoch = 0;       // the epoch the chunk in the buffer belongs to
  std::int64_t interrupted_ns = 0;  // an interrupt that no action has answered yet; 0: none
  std::vector<float> held;          // what a tick that fails gives
  std::int64_t goal_from = 0;       // of serve_chunk: the index that the last key-step counts from
  std::uint64_t goal_number = 0;    // likewise: key-steps so far

  // Shared with other threads.
  std::atomic<std::uint64_t>& epoch = interrupts.epoch;
  std::atomic<bool> replan_wanted = false;
  std::atomic<bool> clocked = false, was_clocked = false;  // a clock of ours runs, ran in this episode

  LoopTrace trace;
  std::uint64_t chunk_tick = 0;  // whose observation the chunk in the buffer was made from
  LatencyRecorder recorder;
  LatencyRecorder unrecorded;  // of predict_chunk, which is outside the loop

  std::unique_ptr<AsyncLoop> async;                 // none in lockstep
  std::unique_ptr<VirtualThreads> virtual_threads;  // of `async` in virtual time
  std::unique_ptr<VirtualWait> virtual_wait;        // of lockstep in virtual time
};

}  // namespace keystep
