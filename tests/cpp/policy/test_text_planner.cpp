// A planner that answers later, in text, through the same tick: what reaches the controller, and when.
#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "subgoal_fixture.hpp"
#include "text_planner.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Number of the text that the controller has; 0: none yet.
int number_of(std::string_view text) {
  const auto digits = text.find_last_of(' ');
  return digits == text.npos ? 0 : std::stoi(std::string(text.substr(digits + 1)));
}

/// Texts that came, in the order in which the controller got them: each once, growing, none that was aborted.
void check_arrivals(const std::vector<int>& arrived, const TextPlanner::Log& log) {
  CHECK(arrived == log.answered);
  CHECK(std::ranges::is_sorted(arrived) && std::set(arrived.begin(), arrived.end()).size() == arrived.size());
  for (const int number : log.aborted) CHECK(!std::ranges::binary_search(arrived, number));
}

/// What the loop must do, said slowly: a chunk of 3 actions for the goal that stands, cut short by a key-step
/// and by an interrupt, and by nothing else.
struct Reference {
  std::vector<double> chunk{};
  std::size_t row = 3;  // none left
  std::uint32_t chunks = 0;

  void check(const Written& policy, int number) {
    if (policy.log.key_step_now) row = 3;
    if (row == 3) {
      double bias = kStateMean;  // the stub adds the mean of every input
      for (const float value : TextPlanner::tensor_of(number)) bias += static_cast<double>(value) / 3;
      chunk = predicted(*policy.runtime->bundle().sampler, bias, {7, 1, chunks++, 0});
      row = 0;
    }
    check_action(policy.action, chunk, row++);
  }
};

/// Every action of a long episode with interrupts and calls to plan anew between ticks.
void every_text_arrives_once_and_in_order(std::uint64_t seed) {
  Written policy(kSubgoalManifest, "state", seed);
  std::mt19937_64 random(seed);
  Reference reference;
  std::vector<int> arrived;
  std::size_t interrupts = 0, quiet = 0;
  for (int i = 0; i < 400; ++i) {
    const int before = number_of(policy.instruction());
    const std::size_t aborted = policy.log.aborted.size();
    const bool interrupt = random() % 20 == 0, replan = !interrupt && random() % 20 == 0;
    if (interrupt) policy.runtime->interrupt();
    if (replan) policy.runtime->replan();
    interrupts += interrupt;
    if (interrupt) reference.row = 3;
    CHECK(policy.tick() == Status::ok);
    const int now = number_of(policy.instruction());
    CHECK((now != before) == policy.log.answered_now);  // no answer: the controller keeps what it has
    if (now != before) arrived.push_back(now);
    quiet += now == before;
    CHECK(policy.log.aborted.size() - aborted <= (interrupt || replan ? 1u : 0u));
    CHECK(now == 0 || policy.instruction() == TextPlanner::text_of(now));
    reference.check(policy, now);
  }
  check_arrivals(arrived, policy.log);
  CHECK(arrived.size() > 50 && quiet > 50 && interrupts > 5 && policy.log.aborted.size() > 10);
  const LatencyReport report = policy.runtime->latency();
  CHECK(report.plans == arrived.size() && report.chunks == reference.chunks);
  CHECK(report.interrupts == interrupts && report.actions == 400);
}

/// A plan of the episode before never reaches the next one.
void reset_aborts() {
  Written policy(kSubgoalManifest, "state", 3);
  for (int episode = 0; episode < 50; ++episode) {
    const std::size_t aborted = policy.log.aborted.size();
    CHECK(policy.tick() == Status::ok);
    const bool making = !policy.log.answered_now;
    policy.runtime->reset({.task = "push"});
    CHECK(policy.log.aborted.size() == aborted + making);
  }
  CHECK(policy.log.aborted.size() > 20 && policy.log.answered.size() > 2);
  for (const int number : policy.log.aborted) {
    CHECK(!std::ranges::binary_search(policy.log.answered, number));
  }
}

/// A flat controller has no input for what a planner writes, but knows the text.
void flat_controllers_keep_the_text() {
  Written policy(kManifest);
  const auto wanted = predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0});
  for (std::size_t i = 0; i < 40; ++i) {
    CHECK(policy.tick() == Status::ok);
    if (i == 0) check_action(policy.action, wanted, 0);
  }
  CHECK(policy.instruction() == TextPlanner::text_of(policy.log.answered.back()));
}

/// A planner that does not fit its controller: nothing of its goal is taken, and it is told.
void goals_that_do_not_fit_are_refused() {
  Written policy(kSubgoalManifest, "elsewhere");
  int refused = 0, dropped = 0;
  for (int i = 0; i < 40; ++i) {
    const bool key_step = policy.log.answered_now && policy.log.key_step_now;
    const std::uint64_t chunks = policy.runtime->latency().chunks;
    const Status status = policy.tick();
    // Refused or not, after a key-step no action of the old chunk follows.
    if (key_step && status == Status::ok) CHECK(policy.runtime->latency().chunks == chunks + 1);
    dropped += key_step && status == Status::ok;
    CHECK(status == (policy.log.answered_now ? Status::rejected_plan : Status::ok));
    refused += status == Status::rejected_plan;
    CHECK(policy.instruction().empty());
  }
  CHECK(dropped > 1 && policy.runtime->latency().plans == 0);
  CHECK(refused > 3 && policy.runtime->latency().gate.rejected_plans == static_cast<std::uint64_t>(refused));
}

/// Interrupts and calls to plan anew from other threads, in the middle of chunks: the law of arrivals holds.
void interrupts_from_another_thread() {
  Written policy(kSubgoalManifest, "state", 5, {{"stub.sleep_us", "200"}});
  std::atomic<bool> done = false;
  std::thread other([&] {
    std::mt19937_64 random(9);
    while (!done) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
      if (random() % 4 == 0) {
        policy.runtime->replan();
      } else {
        policy.runtime->interrupt();
      }
    }
  });
  std::vector<int> arrived;
  for (int i = 0; i < 300; ++i) {
    const int before = number_of(policy.instruction());
    const Status status = policy.tick();
    CHECK(status == Status::ok || status == Status::interrupted);
    if (const int now = number_of(policy.instruction()); now != before) arrived.push_back(now);
  }
  done = true;
  other.join();
  check_arrivals(arrived, policy.log);
  CHECK(!policy.log.aborted.empty());
}

/// A goal that is too long for the room its planner asked for.
void controllers_take_no_text_without_room() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest);
  const keystep::Policy policy(folder.path(), {.engine = {.engine = "stub"}});
  const auto tensors = policy.tensors();
  Controller controller(policy, *tensors);
  CHECK(controller.set_goal(InstructionGoal{"a"}) == Status::rejected_plan);
  controller.reserve_text(3);
  CHECK(controller.set_goal(InstructionGoal{"abc"}) == Status::ok && controller.instruction() == "abc");
  CHECK(controller.set_goal(InstructionGoal{"abcd"}) == Status::rejected_plan);
  CHECK(controller.set_goal(NoGoal{}) == Status::ok && controller.instruction() == "abc");
}

}  // namespace

int main() {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) every_text_arrives_once_and_in_order(seed);
  reset_aborts();
  flat_controllers_keep_the_text();
  goals_that_do_not_fit_are_refused();
  interrupts_from_another_thread();
  controllers_take_no_text_without_room();
  return result();
}
