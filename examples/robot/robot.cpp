// A robot's program: a camera thread, an arm thread, and a policy between them. Twin of robot.py.
//
//   robot BUNDLE [--task NAME] [--seconds S] [--onnxruntime PATH] ..
//
// The robot is world.py, in another process. With another one, `Camera` and `Arm` hold its drivers:
//
//   camera thread     30 Hz  a frame of the robot       -> newest frame
//   arm thread       100 Hz  a state of the robot       -> newest state;  newest action -> the robot
//   policy's clock    60 Hz  newest frame and state     -> tick           -> newest action
//   keystep's own            what the tick saw          -> plans, chunks  (mode async: no tick waits for
//   them)
//
// Two rates. An action of a policy is for one period of the *bundle's* control rate, 1/60 s here. A relative
// one
// ("so much further"), applied 100 times a second, would move the arm 1.7 times as far. So the policy ticks
// at the bundle's rate, and each action has a number. The arm thread sends the newest one, with its number,
// until there is another: the robot executes each number once, and takes what it knows for a sign of life.
// Nothing is interpolated: no value reaches the robot that is not the policy's, or the hold that the bundle
// declares.
//
// The end, whatever it is, leaves the robot with the hold (where the bundle declares one), and with a report.
#include <csignal>
#include <deque>
#include <optional>
#include <span>

#include "arguments.hpp"
#include "loop.hpp"
#include "segments.hpp"

namespace robot {
namespace {

/// The camera's driver.
class Camera {
 public:
  Camera(const Arguments& arguments, const keystep::Bundle& bundle)
      : patience_s_(arguments.patience_s),
        shown_(connect(arguments.name + "-camera", camera_fields(bundle), arguments.wait_s)) {
    first_record(*shown_, arguments.wait_s, patience_s_);
    newest.emplace(Seen(*shown_));
  }

  /// Of the camera thread.
  void step() {
    shown_->read();
    newest->next().take(*shown_);
    newest->publish();
    check_world(*shown_, patience_s_);
  }

  std::optional<Latest<Seen>> newest;  ///< for the policy's thread

 private:
  const double patience_s_;
  const Arrays shown_;
};

/// The arm's driver.
class Arm {
 public:
  Arm(const Arguments& arguments, const keystep::Bundle& bundle, std::function<void()> at_end)
      : patience_s_(arguments.patience_s),
        at_end_(std::move(at_end)),
        shown_(connect(arguments.name + "-state", state_fields(bundle), arguments.wait_s)),
        told_(connect(arguments.name + "-command", command_fields(bundle), arguments.wait_s)),
        command_(Command{std::vector<float>(bundle.action.names.size())}) {
    first_record(*shown_, arguments.wait_s, patience_s_);
    newest.emplace(Seen(*shown_));
  }

  /// Of the policy's thread: its action of this period, or a hold where `status` is not ok.
  keystep::Status take(std::span<const float> action, keystep::Status) {
    std::ranges::copy(action, command_.next().action.begin());
    command_.next().number = ++taken_;
    command_.publish();
    return keystep::Status::ok;
  }

  /// Of the arm thread.
  void step() {
    shown_->read();
    newest->next().take(*shown_);
    newest->publish();
    send();
    check_world(*shown_, patience_s_);
    if (shown_->ended()) at_end_();
  }

  /// After both threads: the last action, which is the run's hold, and that no other will follow.
  void close() {
    send();
    told_->end();
  }

  /// By the world.
  bool ended() const { return shown_->ended(); }

  std::string report() const {
    const auto progress = [this](Progress what) {
      return static_cast<long long>(*static_cast<const std::int64_t*>(shown_->array(what)));
    };
    return text("%llu actions sent, %llu replaced before, %llu repetitions\n", number(sent_),
                number(replaced_), number(repeated_)) +
           text("world: %s after %lld steps; executed last: %lld\n",
                progress(kSuccess) != 0 ? "success" : "no success", progress(kStep), progress(kExecuted));
  }

  std::optional<Latest<Seen>> newest;  ///< for the policy's thread

 private:
  struct Command {
    std::vector<float> action;
    std::int64_t number = 0;  // 0: none yet
  };

  void send() {
    const Command& command = command_.newest();
    if (command.number == 0) return;
    const bool is_new = command.number != last_;
    sent_ += is_new ? 1 : 0;
    repeated_ += is_new ? 0 : 1;
    replaced_ += is_new ? static_cast<std::uint64_t>(command.number - last_ - 1) : 0;
    last_ = command.number;
    const std::array<const void*, 2> arrays = {&command.number, command.action.data()};
    told_->write(arrays, {.timestamp_us = keystep::now_us()});
  }

  const double patience_s_;
  const std::function<void()> at_end_;
  const Arrays shown_, told_;
  Latest<Command> command_;
  std::int64_t taken_ = 0;  // of the policy's thread
  std::int64_t last_ = 0;   // number that was sent
  std::uint64_t sent_ = 0, repeated_ = 0, replaced_ = 0;
};

std::atomic<bool> signalled = false;

/// The threads, and what the policy sees of them.
class Robot {
 public:
  Robot(const Arguments& arguments, keystep::Runtime& policy)
      : policy_(policy),
        clock_(policy, 0, run_options(arguments, policy.bundle())),
        arm_(arguments, policy.bundle(), [this] { clock_.stop(); }) {
    const keystep::Bundle& bundle = policy.bundle();
    if (arguments.arm_hz < bundle.control_rate_hz) {  // else it would leave actions out
      throw keystep::ArgumentError(keystep::expected(
          "arm_hz", text("at least the bundle's %g", bundle.control_rate_hz), text("%g", arguments.arm_hz)));
    }
    loops_.emplace_back(
        "arm", arguments.arm_hz, [this] { arm_.step(); }, static_cast<int>(arguments.fifo_priority));
    if (!camera_fields(bundle).empty()) {
      camera_ = std::make_unique<Camera>(arguments, bundle);
      loops_.emplace_back("camera", arguments.camera_hz, [this] { camera_->step(); });
    }
    for (const keystep::FeatureSpec& feature : bundle.observation) {
      keystep::FeatureView& view = views_.emplace_back();
      view.dtype = feature.dtype;
      view.axes = static_cast<int>(feature.shape.size());
      std::ranges::copy(feature.shape, view.shape.begin());
    }
  }

  /// Until the world ends, or the time is over, or Ctrl-C: which one.
  std::string run() {
    for (Loop& loop : loops_) loop.start();
    try {
      clock_.run([this](keystep::Observation& seen) { return see(seen); },
                 [this](std::span<const float> action, keystep::Status status) {
                   return arm_.take(action, status);
                 });
    } catch (...) {
      stop();
      throw;
    }
    stop();
    return signalled ? "Ctrl-C" : arm_.ended() ? "the world" : "--seconds";
  }

  /// What the system gave, how time was kept, what was missing.
  std::string report(const std::string& end) const {
    std::string all = "ended by: " + end + "\n" +
                      text("policy at %g Hz:\n", policy_.bundle().control_rate_hz) + shown(clock_.report());
    for (const Loop& loop : loops_) all += loop.report();
    return all + arm_.report() + shown(policy_.telemetry()) +
           shown(policy_.latency(), policy_.engine_description());
  }

 private:
  static keystep::RunOptions run_options(const Arguments& arguments, const keystep::Bundle& bundle) {
    return {.periods = static_cast<std::uint64_t>(std::llround(arguments.seconds * bundle.control_rate_hz)),
            .thread = {.fifo_priority = static_cast<int>(arguments.fifo_priority),
                       .lock_memory = arguments.lock_memory}};
  }

  /// The newest of everything, as old as the oldest of it. Throws what a thread threw: the run ends.
  keystep::Status see(keystep::Observation& observation) {
    for (const Loop& loop : loops_) loop.check();
    if (signalled) clock_.stop();
    const Seen& state = arm_.newest->newest();
    const Seen* const frame = camera_ ? &camera_->newest->newest() : nullptr;
    std::size_t vectors = kProgress, images = 0;
    for (std::size_t i = 0; i < views_.size(); ++i) {
      const bool image = is_image(policy_.bundle().observation[i]);
      views_[i].data = image ? frame->arrays[images++].data() : state.arrays[vectors++].data();
    }
    const std::int64_t frame_us = frame != nullptr ? frame->timestamp_us : state.timestamp_us;
    observation = {.features = views_, .timestamp_us = std::min(state.timestamp_us, frame_us)};
    return keystep::Status::ok;
  }

  void stop() {
    for (Loop& loop : loops_) loop.stop();
    arm_.close();  // last
  }

  keystep::Runtime& policy_;
  keystep::FixedRate clock_;
  Arm arm_;
  std::unique_ptr<Camera> camera_;
  std::vector<keystep::FeatureView> views_;
  std::deque<Loop> loops_;  // the first to go: they use what is above
};

/// Load, connect, run, report.
void run(const Arguments& arguments) {
  keystep::RuntimeOptions options;
  options.engine.onnxruntime_library = arguments.onnxruntime;
  options.mode = "async";
  options.async.underrun = arguments.underrun;
  options.max_observation_age_us = std::llround(1000 * arguments.max_age_ms);
  keystep::Runtime policy(arguments.bundle, options);
  Robot robot(arguments, policy);

  keystep::EpisodeContext episode;
  const std::vector<keystep::TaskSpec>& tasks = policy.bundle().tasks;
  episode.task = arguments.task.empty() && !tasks.empty() ? tasks[0].name : arguments.task;
  episode.seed = static_cast<std::uint64_t>(arguments.seed);
  policy.reset(episode);
  std::printf("robot: %s, %s\n", policy.bundle().name.c_str(), episode.task.c_str());
  std::fflush(stdout);

  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { signalled = true; });
  std::string end = "an error";
  try {
    end = robot.run();
  } catch (...) {
    std::fputs(robot.report(end).c_str(), stdout);
    std::fflush(stdout);
    throw;
  }
  std::fputs(robot.report(end).c_str(), stdout);
}

}  // namespace
}  // namespace robot

int main(int argc, char** argv) {
  try {
    robot::run(robot::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "robot: %s\n", error.what());
    return 1;
  }
}
