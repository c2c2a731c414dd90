#include "keystep/code_runtime.hpp"

#include <chrono>
#include <new>
#include <utility>

#include "loop/code_runtime_internals.hpp"
#include "loop/latency_recorder.hpp"
#include "loop/loop_trace.hpp"
#include "loop/session_base.hpp"
#include "policy/code_planner.hpp"
#include "policy/policy.hpp"
#include "support/clock.hpp"

namespace keystep {
namespace {

constexpr int kMostOption = 65536;

int in_range(const char* field, int value) {
  if (value >= 1 && value <= kMostOption) return value;
  throw ArgumentError(expected(field, "1.." + std::to_string(kMostOption), std::to_string(value)));
}

DecodingSpec chosen(const CodeOptions& options, DecodingSpec decoding) {
  decoding.way = options.way.value_or(decoding.way);
  if (decoding.way != "greedy" && decoding.way != "early_stop" && decoding.way != "draft") {
    throw ArgumentError(expected("way", "greedy | early_stop | draft", in_quotes(decoding.way)));
  }
  if (options.early_stop)
    decoding.early_stop = static_cast<std::size_t>(in_range("early_stop", *options.early_stop));
  if (options.every) decoding.every = in_range("every", *options.every);
  decoding.constrained = options.constrained.value_or(decoding.constrained);
  return decoding;
}

RuntimeOptions engine_alone(const CodeOptions& options) {
  RuntimeOptions all;
  all.engine = options.engine;
  all.deadline_us = options.deadline_us;
  return all;
}

std::unique_ptr<CodePlanner> planner_of(const Policy& policy, std::shared_ptr<const CodeLanguage> language,
                                        Tensors& tensors, const DecodingSpec& decoding) {
  const Bundle& bundle = *policy.bundle();
  return std::make_unique<CodePlanner>(
      CodePlannerParts{*bundle.code,
                       std::move(language),
                       bundle.observation,
                       policy.graph("vision"),
                       policy.bind("vision", tensors),
                       {policy.graph("embed"), policy.graph("decode"), policy.bind("embed", tensors),
                        policy.bind("decode", tensors)},
                       tensors},
      decoding);
}

}  // namespace

struct CodeRuntime::Impl : SessionBase {
  /// `known`: of another session with the same options.
  Impl(std::shared_ptr<const Policy> shared, CodeOptions with,
       std::shared_ptr<const CodeLanguage> known = nullptr)
      : SessionBase(with.attendant),
        policy(std::move(shared)),
        shared_bundle(policy->bundle()),
        bundle(*shared_bundle),
        options(std::move(with)),
        decoding(chosen(options, bundle.code->decoding)),
        deadline_us(policy->options().deadline_us),
        description(policy->engine_description()),
        choices(policy->engine_choices()),
        language(known ? std::move(known)
                       : std::make_shared<const CodeLanguage>(*bundle.code, decoding.constrained)),
        tensors(policy->tensors()),
        planner(planner_of(*policy, language, *tensors, decoding)),
        trace(options.tracer) {}

  /// A call that computes, under the epoch it began in.
  template <class Work>
  Status compute(const Work& work) noexcept {
    sampling = true;
    const Status status = work(Epoch{interrupts.epoch, interrupts.epoch.load(), &attention});
    sampling.store(false, std::memory_order_release);
    return status == Status::ok ? status : fail(status, planner->error().c_str());
  }
  Status ask(const Observation& observation, CodeReply& reply, bool request) noexcept;
  void terminate() noexcept {
    const std::lock_guard lock(engine_mutex);
    if (planner) planner->terminate();
  }
  void interrupt() noexcept {
    if (in_child()) return;  // the lock may be held by a thread that is not here
    interrupts.add(now_ns());
    if (sampling) terminate();
  }

  // What all sessions share. Freed by close: whoever closes last frees the weights.
  std::shared_ptr<const Policy> policy;
  const std::shared_ptr<const Bundle> shared_bundle;
  const Bundle& bundle;
  const CodeOptions options;
  const DecodingSpec decoding;
  const double deadline_us;
  const std::string description;
  const std::vector<EngineChoice> choices;
  const std::shared_ptr<const CodeLanguage> language;

  // This session's, freed by close.
  std::unique_ptr<Tensors> tensors;
  std::unique_ptr<CodePlanner> planner;
  std::string task;
  std::int64_t step = 0;  // of the episode
  LoopTrace trace;
  LatencyRecorder recorder;
  std::uint64_t rejected = 0;
};

/// A step that fails is one, too: the next is asked in any case.
Status CodeRuntime::Impl::ask(const Observation& observation, CodeReply& reply, bool request) noexcept {
  const TracedTick traced(trace);
  const std::int64_t start = now_ns();
  try {
    reply.text.reserve(CodePlanner::most_reply_bytes(*bundle.code));  // before anything is remembered
  } catch (...) {
    return fail(Status::rejected_plan, "reply: expected memory for its text, got none");
  }
  if (request) planner->request_keystep();
  const Status status = compute([&](const Epoch& epoch) {
    const PlanRequest asked{observation, step, false, epoch, recorder[Stage::plan], recorder[Stage::score]};
    planner->start(asked);
    return planner->poll(asked).status;
  });
  ++step;
  recorder.actions.add();
  recorder.record_tick(now_ns() - start, deadline_us);
  if (status != Status::ok) {
    trace.failed(status);
    rejected += status == Status::rejected_plan;
    return status;
  }
  const CodeAnswer& answer = planner->answer();
  recorder.plans.add(answer.asked);
  reply.text.assign(answer.text);  // there is room
  reply.key_step = answer.key_step;
  reply.asked = answer.asked;
  reply.ended = answer.ended;
  reply.tokens = static_cast<int>(answer.tokens);
  reply.passes = answer.passes;
  return Status::ok;
}

std::unique_ptr<CodeRuntime> CodeRuntimeInternals::open(const std::filesystem::path& bundle,
                                                        const CodeOptions& options,
                                                        const EngineFactory& engine) {
  auto policy = std::make_shared<const Policy>(bundle, engine_alone(options), engine, Host::code_runtime);
  return std::unique_ptr<CodeRuntime>(
      new CodeRuntime(std::make_unique<CodeRuntime::Impl>(std::move(policy), options)));
}

CodeRuntime::CodeRuntime(const std::filesystem::path& bundle, CodeOptions options)
    : impl_(std::make_unique<Impl>(
          std::make_shared<const Policy>(bundle, engine_alone(options), &make_engine, Host::code_runtime),
          options)) {}
CodeRuntime::CodeRuntime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CodeRuntime::~CodeRuntime() { close(); }

std::unique_ptr<CodeRuntime> CodeRuntime::session(std::shared_ptr<Attendant> attendant) const {
  const Impl& self = *impl_;
  if (const Status status = usable(); status != Status::ok) throw PolicyError(status);
  const std::shared_ptr<const Policy> policy = [&] {
    const std::lock_guard lock(self.engine_mutex);  // close on another thread
    return self.policy;
  }();
  if (!policy) throw PolicyError(Status::closed);
  CodeOptions options = self.options;
  options.attendant = std::move(attendant);
  return std::unique_ptr<CodeRuntime>(
      new CodeRuntime(std::make_unique<Impl>(policy, std::move(options), self.language)));
}

const Bundle& CodeRuntime::bundle() const noexcept { return impl_->bundle; }
const CodeOptions& CodeRuntime::options() const noexcept { return impl_->options; }
const DecodingSpec& CodeRuntime::decoding() const noexcept { return impl_->decoding; }
std::string CodeRuntime::engine_description() const { return impl_->description; }
const std::vector<EngineChoice>& CodeRuntime::engine_choices() const noexcept { return impl_->choices; }

CodeReply CodeRuntime::make_reply() const {
  CodeReply reply;
  reply.text.reserve(CodePlanner::most_reply_bytes(*impl_->bundle.code));
  return reply;
}

void CodeRuntime::reset(const std::string& task) {
  Impl& self = *impl_;
  const Entry entry(self.inside);
  self.require(entry);
  const Attention::Call call(self.attention);
  const EpisodeContext context{.instruction = task};
  const Aim aim{.text = task};
  self.planner->check(context, aim);
  std::string told = task;
  self.planner->reset(context, aim, {self.interrupts.epoch, self.interrupts.epoch.load(), &self.attention});
  self.task = std::move(told);
  self.step = 0;
  self.started = true;
}

Status CodeRuntime::ask(const Observation& observation, CodeReply& reply, bool request,
                        std::string* message) noexcept {
  return impl_->call(message, [&] { return impl_->ask(observation, reply, request); });
}

Status CodeRuntime::prepare(std::string* message) noexcept {
  return impl_->call(message, [&] {
    const TracedThread traced(impl_->trace.track());
    return impl_->compute([&](const Epoch& epoch) { return impl_->planner->prepare(epoch); });
  });
}

void CodeRuntime::interrupt() noexcept {
  impl_->interrupts.counted.fetch_add(1);
  impl_->interrupt();
}

void CodeRuntime::call_attention(bool at_once) noexcept {
  if (impl_->in_child() || !impl_->options.attendant) return;
  impl_->attention.call();
  if (at_once) impl_->terminate();
}

bool CodeRuntime::closed() const noexcept { return impl_->closed; }
Status CodeRuntime::usable() const noexcept { return impl_->usable(); }

void CodeRuntime::close() noexcept {
  Impl& self = *impl_;
  if (self.in_child()) {  // whoever was inside, or holds a lock, is not in this process
    self.closed = true;
    [[maybe_unused]] const void* left[] = {self.planner.release(), self.tensors.release(),
                                           new (std::nothrow) std::shared_ptr(std::move(self.policy))};
    return;
  }
  if (!self.shut([&] { self.interrupt(); })) return;
  {
    const std::lock_guard lock(self.engine_mutex);
    self.planner.reset();
    self.tensors.reset();
    self.policy.reset();
  }
  self.inside = Inside::nobody;
  self.trace.flush();
}

// ---- for those who look on

namespace {

/// What `read` says of a planner that nobody else is at.
template <class Session, class Read>
auto looked_at(Session& self, const Read& read) {
  const Entry entry(self.inside, Inside::reader);  // close frees the planner
  self.require(entry);
  return read();
}

}  // namespace

std::string CodeRuntime::task() const {
  return looked_at(*impl_, [&] { return impl_->task; });
}

std::vector<std::string> CodeRuntime::memory() const {
  return looked_at(*impl_, [&] {
    const CodeMemory& memory = impl_->planner->memory();
    std::vector<std::string> all;
    for (std::size_t i = 0; i < memory.size(); ++i) all.emplace_back(memory[i]);
    return all;
  });
}

std::string CodeRuntime::code() const {
  return looked_at(*impl_, [&] { return std::string(impl_->planner->code()); });
}

std::string CodeRuntime::info() const {
  return looked_at(*impl_, [&] { return std::string(impl_->planner->info()); });
}

std::vector<CodeEvent> CodeRuntime::events() const {
  return looked_at(*impl_, [&] { return impl_->planner->events(); });
}

CodeCounts CodeRuntime::counts() const {
  return looked_at(*impl_, [&] { return impl_->planner->counts(); });
}

LatencyReport CodeRuntime::latency(Status* status) const noexcept {
  Impl& self = *impl_;
  const Entry entry(self.inside, Inside::reader);
  self.admits(entry, status);
  if (!entry) return {};
  LatencyReport report = self.recorder.report();
  report.interrupts = self.interrupts.counted;
  report.deadline_us = self.deadline_us;
  report.time_per_action_us = self.recorder.time_per_action_us(false);
  report.gate.rejected_plans = self.rejected;
  return report;
}

Status CodeRuntime::reset_latency() noexcept {
  Impl& self = *impl_;
  const Entry entry(self.inside, Inside::reader);
  if (const Status status = self.refusal(entry); status != Status::ok) return status;
  self.recorder = {};
  self.interrupts.counted = 0;
  self.rejected = 0;
  self.planner->reset_counts();
  return Status::ok;
}

}  // namespace keystep
