// Another thread wants a word with the one inside the runtime, which then decides whether to go on.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

namespace keystep {

class Attention {
 public:
  explicit Attention(std::function<bool()> attend) : attend_(std::move(attend)) {}

  void call() noexcept { called_.store(attend_ != nullptr); }  ///< any thread
  void begin_call() noexcept { ended_ = false; }               ///< the thread inside, like all below
  /// Asks `attend` if it was called for since; once that said true, the call is over.
  bool ends_call() noexcept {
    if (!ended_ && called_.load() && called_.exchange(false)) ended_ = attend_();
    return ended_;
  }

 private:
  const std::function<bool()> attend_;
  std::atomic<bool> called_ = false;
  bool ended_ = false;
};

}  // namespace keystep
