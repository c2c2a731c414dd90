// Two error regimes: loading throws, the tick returns a Status. Nothing prints and carries on.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace keystep {

/// What a tick did. Every value but `ok` leaves `Action` at the bundle's hold action, see `Runtime::tick`.
enum class Status {
  ok,
  not_reset,        ///< `tick` before the first `reset`
  closed,           ///< use after `close`
  forked,           ///< use in a child of the process that loaded the bundle: load it there
  busy,             ///< another thread is inside the runtime
  bad_observation,  ///< wrong size, NaN or Inf, a stamp that cannot be; `Runtime::last_error` names the field
  stale_observation,  ///< older than `RuntimeOptions::max_observation_age_us`
  interrupted,        ///< `interrupt` arrived during a plan or a chunk; the next tick makes it anew
  rejected_plan,      ///< a plan with NaN or Inf, a reply without end or room; the next tick asks again
  rejected_chunk,     ///< the policy produced NaN or Inf; the chunk was dropped by the safety gate
  engine_failure,     ///< the inference engine failed; `Runtime::last_error` has its message
  engine_hung,  ///< async: its call takes longer than `AsyncOptions::watchdog_us`, and no action is left
  underrun,     ///< async: no action is ready, and the declared policy is fault, or nothing can be held
};

const char* describe(Status status) noexcept;

/// Base of everything keystep throws. The message names the field, what was expected and what came; it is
/// valid UTF-8 without NUL, whatever text of a file or a caller it quotes, and of at most 2,000 bytes.
struct Error : std::runtime_error {
  explicit Error(const std::string& message);
};
/// The bundle on disk is damaged, unsafe, of a newer version, or disagrees with itself.
struct BundleError : Error {
  using Error::Error;
};
/// The inference engine or the provider asked for is not available.
struct ProviderError : Error {
  using Error::Error;
};
/// An argument is outside what the policy or the function accepts.
struct ArgumentError : Error {
  using Error::Error;
};

/// The runtime does not take the call: it is closed, forked or busy.
struct PolicyError : Error {
  explicit PolicyError(Status refusal) : PolicyError(refusal, describe(refusal)) {}
  PolicyError(Status why, const std::string& message) : Error(message), status(why) {}
  Status status;
};

/// "field: expected X, got Y".
std::string expected(const std::string& field, const std::string& wanted, const std::string& got);

/// " (nearest: 'X')", X being the entry of `known` that `word` is most likely a slip of, by edit distance
/// without regard to case; "" where none is similar.
std::string nearest(std::string_view word, std::span<const std::string> known);
/// `text` in quotes for a message, cut where it is long.
std::string in_quotes(std::string_view text);

}  // namespace keystep
