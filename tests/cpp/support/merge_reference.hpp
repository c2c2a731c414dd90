// The asynchronous loop once more, slow and clear, as far as chunks go that merge inside the sampler: which
// chunk every action is of, what each continues, and the chunk itself, by a controller of its own.
#pragma once

#include <algorithm>
#include <optional>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "counting_planner.hpp"
#include "policy/controller.hpp"
#include "policy/policy.hpp"

namespace keystep::test {

constexpr std::size_t kWidth = 2;  ///< values of an action

/// `rows` from `start` on, no clipping, so that chunks differ; `max_delay` 0: no mask.
inline std::string merging_manifest(int rows, int start, int execute, int max_delay) {
  const std::string horizon = std::to_string(rows + start);
  std::string manifest = replaced(kManifest, R"("clip_sample": true)", R"("clip_sample": false)");
  manifest = replaced(manifest, R"("min": [-100, -100], "max": [100, 100])",
                      R"("min": [-1000000, -1000000], "max": [1000000, 1000000])");
  if (max_delay > 0) {
    manifest = replaced(masked(manifest, max_delay), "[1, 4, 1]", "[1, " + horizon + ", 1]");
  }
  manifest = replaced(manifest, R"("horizon": 4, "execute": 3, "start": 0)",
                      R"("horizon": )" + horizon + R"(, "execute": )" + std::to_string(execute) +
                          R"(, "start": )" + std::to_string(start));
  for (int i = 0; i < 2; ++i) manifest = replaced(manifest, "[1, 4, 2]", "[1, " + horizon + ", 2]");
  return manifest;
}

/// What a tick saw.
struct SeenAt {
  std::vector<float> state;
  std::int64_t consumed = 0;
  int expected = 1;
  std::vector<float> rest{};  ///< of the chunk `of`, which is for `goal`
  int of = 0, goal = 0;
  std::uint64_t epoch = 0;
};

struct MadeChunk {
  int id = 0, goal = 0;
  std::int64_t start = 0, from = 0;  ///< `from`: the index at which its goal is due
  std::uint64_t epoch = 0;
  std::vector<float> values{}, alone{};  ///< `alone`: had it continued nothing
  int of = 0;                            ///< the chunk that it continues; 0: none
  Continuation continued{};              ///< whose `previous` is gone
  std::vector<float> weights{};          ///< of the rows, x0blend
  std::span<const float> row(const std::vector<float>& of_values, std::int64_t index) const {
    return std::span(of_values).subspan(static_cast<std::size_t>(index - start) * kWidth, kWidth);
  }
};

class MergeReference {
 public:
  MergeReference(const fs::path& bundle, bool trained, const CountingPlanner::Log* goals)
      : trained_(trained), goals_(goals), policy_(bundle, stub()), tensors_(policy_.tensors()) {
    controller_.emplace(policy_, *tensors_);
    const ChunkSpec& chunk = policy_.bundle()->chunk;
    start_ = chunk.start;
    rows_ = chunk.horizon - chunk.start;
    max_delay_ = chunk.max_delay;
  }

  void interrupt() { ++epoch_; }
  std::uint64_t epoch() const { return epoch_; }
  int rows() const { return rows_; }

  /// A tick as far as its action: what is to be given, empty where there is none.
  std::vector<float> tick(const std::vector<float>& state) {
    if (executed_ && executed_->epoch != epoch_) executed_.reset();
    if (waiting_ && waiting_->epoch != epoch_) waiting_.reset();
    if (waiting_ && (left() == 0 || waiting_->from <= consumed_)) install(*std::exchange(waiting_, {}));
    seen_ = {.state = state, .consumed = consumed_, .epoch = epoch_};
    if (left() == 0) return {};
    const auto used = static_cast<std::ptrdiff_t>(consumed_ - executed_->start) * std::ptrdiff_t{kWidth};
    seen_.rest.assign(executed_->values.begin() + used, executed_->values.end());
    seen_.of = executed_->id;
    seen_.goal = executed_->goal;
    const auto action = executed_->row(executed_->values, consumed_++);
    return {action.begin(), action.end()};
  }
  void expects(std::int64_t delay) { seen_.expected = static_cast<int>(delay); }

  void begin() {
    working_ = seen_;
    working_epoch_ = epoch_;
    if (newest() > goal_ && from() <= seen_.consumed + seen_.expected) {
      goal_ = newest();
      from_ = from();
    }
  }
  void finish() {
    const std::uint64_t number = std::exchange(number_, after(number_));
    if (working_epoch_ != epoch_) return;
    waiting_ =
        MadeChunk{.id = ++ids_, .goal = goal_, .start = working_.consumed, .from = from_, .epoch = epoch_};
    MadeChunk& made = *waiting_;
    made.continued = continuation();
    made.alone = sampled({}, number);
    made.values = sampled(made.continued, number);
    const bool continues = made.continued.rule != Continuation::Rule::none;
    made.of = continues ? working_.of : 0;
    made.weights.resize(static_cast<std::size_t>(rows_));
    merge_weights(made.continued.delay, made.continued.overlap,
                  static_cast<int>(made.continued.previous.size() / kWidth), made.continued.decay,
                  made.weights);
    made.continued.previous = {};
  }

  std::optional<int> overlap;  ///< the first row that is wholly new; none: H - delay
  Continuation::Decay decay = Continuation::Decay::exponential;

  int installed = 0, continued = 0, beyond = 0;  ///< chunks
  double late_seams = 0, late_seams_alone = 0;   ///< sums
  int exact = 0, late = 0, other_goals = 0;      ///< seams, by what was to be seen there

 private:
  static RuntimeOptions stub() {
    RuntimeOptions options;
    options.engine.engine = "stub";
    return options;
  }
  int newest() const { return goals_ == nullptr ? 0 : static_cast<int>(goals_->from.size()) - 1; }
  std::int64_t from() const { return goals_ == nullptr ? 0 : goals_->from.back(); }
  std::int64_t left() const {
    return executed_ ? std::max<std::int64_t>(executed_->start + rows_ - consumed_, 0) : 0;
  }

  /// The law of docs/merging.md.
  Continuation continuation() const {
    if (working_.epoch != epoch_ || working_.rest.empty()) return {};
    const int rest = static_cast<int>(working_.rest.size() / kWidth),
              delay = std::min(working_.expected, rest);
    const int last = std::max(delay, std::min(rest, overlap ? *overlap : rows_ - delay));
    const bool trained = trained_ && delay <= max_delay_;
    return {.previous = working_.rest,
            .delay = delay,
            .overlap = working_.goal != goal_ ? delay : last,
            .rule = trained ? Continuation::Rule::trained : Continuation::Rule::x0blend,
            .decay = decay};
  }

  std::vector<float> sampled(const Continuation& continuation, std::uint64_t number) {
    std::vector<float> chunk(static_cast<std::size_t>(start_ + rows_) * kWidth);
    const std::atomic<std::uint64_t> never = 0;
    Histogram unused;
    CHECK(controller_->set_goal(TaskGoal{goals_ == nullptr ? 1 : goal_}) == Status::ok);
    CHECK(controller_->observe(test::seen(working_.state), true) == Status::ok);
    CHECK(controller_->continue_from(continuation) == Status::ok);
    CHECK(controller_->sample({7, 1, number, 0}, {}, {never, 0}, unused, unused, chunk) == Status::ok);
    chunk.erase(chunk.begin(), chunk.begin() + start_ * static_cast<std::ptrdiff_t>(kWidth));
    return chunk;
  }

  void install(const MadeChunk& made) {
    if (made.goal < newest() - (from() > consumed_) || made.start + rows_ <= consumed_) return;
    ++installed;
    continued += made.of != 0;
    beyond += trained_ && made.continued.rule == Continuation::Rule::x0blend;
    if (executed_) check_seam(*executed_, made);
    executed_ = made;
  }

  /// What has to be true of any two chunks that follow each other.
  void check_seam(const MadeChunk& old, const MadeChunk& made) {
    const std::int64_t rest = old.start + rows_ - made.start, k = consumed_ - made.start;
    const std::int64_t delay = made.continued.delay;
    CHECK(rest <= 0 ? made.of == 0 : made.of == old.id);  // it continues what is executed, or nothing
    for (std::int64_t r = 0; r < delay; ++r) {
      CHECK(std::ranges::equal(made.row(made.values, made.start + r), old.row(old.values, made.start + r)));
    }
    if (made.of == 0 || k >= rest) return;  // nothing of the old one is left: no seam
    if (k <= delay) {
      ++exact;  // all that was executed since is of the new chunk, too: what follows is a step within it
    } else if (made.continued.rule == Continuation::Rule::x0blend) {
      check_late(old, made, static_cast<std::size_t>(k));
    }
    // Of a chunk for another goal nothing is continued beyond the delay.
    if (made.goal == old.goal || made.continued.rule != Continuation::Rule::x0blend) return;
    ++other_goals;
    for (std::int64_t r = delay; r < rows_; ++r) {
      CHECK(std::ranges::equal(made.row(made.values, made.start + r), made.row(made.alone, made.start + r)));
    }
  }

  /// More was consumed than expected: the seam is that of a chunk of its own where the old chunk weighs
  /// nothing, and elsewhere no larger, give or take a twentieth of the range of an action: the stub is no
  /// denoiser of anything, and may predict something else for a sample that was drawn aside.
  void check_late(const MadeChunk& old, const MadeChunk& made, std::size_t k) {
    late += made.weights[k] > 0;
    for (std::size_t d = 0; d < kWidth; ++d) {
      const auto was = static_cast<double>(old.row(old.values, consumed_)[d]);
      const double seam = std::abs(static_cast<double>(made.row(made.values, consumed_)[d]) - was);
      const double alone = std::abs(static_cast<double>(made.row(made.alone, consumed_)[d]) - was);
      CHECK_NEAR(std::max(seam - alone, 0.0), 0, made.weights[k] > 0 ? 0.2 : 0);
      late_seams += seam;
      late_seams_alone += alone;
    }
  }

  const bool trained_;
  const CountingPlanner::Log* const goals_;  // goal n is task n; none: the task of the episode, 1
  const keystep::Policy policy_;
  const std::unique_ptr<Tensors> tensors_;
  std::optional<Controller> controller_;
  int start_ = 0, rows_ = 0, max_delay_ = 0;

  std::uint64_t epoch_ = 0, working_epoch_ = 0, number_ = 0;
  std::int64_t consumed_ = 0, from_ = 0;
  int goal_ = 0, ids_ = 0;
  SeenAt seen_, working_;
  std::optional<MadeChunk> executed_, waiting_;
};

}  // namespace keystep::test
