// An engine without a library, for tests and for measuring the loop itself. It reads no graph file; the roles
// of a graph's tensors tell its kind, and every output is a closed form of the bound inputs. `mean(x)` is the
// mean of a tensor, of a text the mean of its bytes / 256, and `mean_b` that of row b of a condition with two
// rows (guidance: 0 conditional, 1 null); of one row, both branches see the same.
//
//   encode, film,    condition[0, ...] = sum over the inputs of mean_0
//   plan_encode,     condition[1, ...] = sum over the conditions among the inputs of mean_1, 0 without any
//   plan_film, text
//   denoise,         model_output[b, ...] = 0.1 sample[b, ...] + 0.001 timestep + c_b
//   plan_denoise
//   act              actions[0, h, ...] = 0.01 h + c_0
//   score            score[b] = mean of sample[b, ...] + c_0
//
// where c_b is the sum of mean_b over the inputs other than sample and timestep. What `provider_options`
// inject: stub_options.hpp.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <numeric>
#include <span>
#include <thread>

#include "engines/engines.hpp"
#include "engines/stub/stub_faults.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

/// The host's memory, and what is counted of a session.
class StubTensors final : public Tensors {
 public:
  std::atomic<std::int64_t> runs = 0;
  std::atomic<std::uint64_t> draws = 0;  // of the jitter

 protected:
  std::unique_ptr<Tensor> make(const TensorSpec& spec) override { return make_host_tensor(spec); }
};

template <class T>
double mean_of(const void* data, std::size_t first, std::size_t count) noexcept {
  const T* values = static_cast<const T*>(data) + first;
  return std::accumulate(values, values + count, 0.0) / static_cast<double>(count);
}

struct Bound {
  TensorSpec spec;
  void* data;
  std::size_t rows;   ///< 1: what all rows see
  std::size_t count;  ///< values of a row
};

/// Of row `row`, or of the only row.
double mean(const Bound& tensor, std::size_t row) noexcept {
  const std::size_t count = tensor.count, first = std::min(row, tensor.rows - 1) * count;
  switch (tensor.spec.dtype) {
    case DType::float32:
      return mean_of<float>(tensor.data, first, count);
    case DType::int64:
      return mean_of<std::int64_t>(tensor.data, first, count);
    case DType::uint8:
      return mean_of<std::uint8_t>(tensor.data, first, count);
    case DType::string:
      break;
  }
  const std::string& text = *static_cast<const std::string*>(tensor.data);
  return text.empty() ? 0 : mean_of<unsigned char>(text.data(), 0, text.size()) / 256;
}

class StubGraph final : public Graph {
 public:
  StubGraph(const GraphSpec& spec, const std::vector<int>& rows, Tensors& tensors, const StubOptions& options)
      : options_(options),
        faults_(options, spec),
        runs_(dynamic_cast<StubTensors&>(tensors).runs),
        draws_(dynamic_cast<StubTensors&>(tensors).draws),
        rows_(rows) {
    for (const TensorSpec& tensor : spec.inputs) inputs_.push_back(bound(spec, tensor, tensors));
    for (const TensorSpec& tensor : spec.outputs) outputs_.push_back(bound(spec, tensor, tensors));
    encodes_ = outputs_.front().spec.role == "condition";
    scores_ = outputs_.front().spec.role == kScoreRole;
    acts_ = outputs_.front().spec.role == "actions";
  }

  Status run(int rows) noexcept override {
    if (std::ranges::find(rows_, rows) == rows_.end()) return refuse_rows(rows, error_);
    const StubFault fault = faults_.next();
    if (sleep(fault == StubFault::slow ? options_.slow_us : 0)) return Status::interrupted;
    if (fault == StubFault::hang) hang();
    if (fault == StubFault::fail) return fail("stub.fail_ppm ", options_.fail_ppm);
    const Status status = compute(static_cast<std::size_t>(rows));
    if (status == Status::ok) damage(fault);
    return status;
  }

  void terminate() noexcept override { terminated_ = true; }
  const std::string& error() const noexcept override { return error_; }

 private:
  static Bound bound(const GraphSpec& graph, const TensorSpec& spec, Tensors& tensors) {
    const auto rows = static_cast<std::size_t>(has_rows(graph, spec) ? graph.rows : 1);
    return {spec, tensors.at(spec).data, rows, spec.elements() / rows};
  }

  Status compute(std::size_t rows) noexcept {
    if (encodes_) {
      encode(rows);
      return Status::ok;
    }
    if (scores_) {
      score(rows);
      return Status::ok;
    }
    const std::int64_t run = ++runs_;
    if (run == options_.hang_at_run) hang();
    if (run == options_.fail_at_run) return fail("stub.fail_at_run ", run);
    if (options_.marks != 0 && acts_) {
      mark();
    } else {
      predict(rows);
    }
    if (run == options_.nan_at_run) damage(StubFault::nan);
    return Status::ok;
  }

  void hang() const noexcept { std::this_thread::sleep_for(std::chrono::microseconds(options_.hang_us)); }

  void damage(StubFault fault) noexcept {
    auto* output = static_cast<float*>(outputs_.front().data);
    if (fault == StubFault::nan) *output = std::numeric_limits<float>::quiet_NaN();
    if (fault == StubFault::wild) *output = 1e6f;
  }

  /// True if terminated.
  bool sleep(std::int64_t more_us) noexcept {
    using Clock = std::chrono::steady_clock;
    const std::int64_t sleep_us = options_.sleep_us + jitter() + more_us;
    const auto end = Clock::now() + std::chrono::microseconds(sleep_us);
    while (sleep_us > 0 && Clock::now() < end && !terminated_) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return terminated_.exchange(false);
  }

  /// 0..jitter_us, by Knuth's multiplicative hash of how often it was asked.
  std::int64_t jitter() noexcept {
    if (options_.jitter_us == 0) return 0;
    const std::uint64_t hash = (++draws_ * 0x9E3779B97F4A7C15u) >> 33;
    return static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(options_.jitter_us + 1));
  }

  void encode(std::size_t rows) noexcept {
    for (std::size_t row = 0; row < rows; ++row) {
      double sum = 0;
      for (const Bound& input : inputs_) {
        if (row == 0 || input.spec.role == "condition") sum += mean(input, row);
      }
      for (const Bound& output : outputs_) {
        if (row >= output.rows) continue;
        std::fill_n(static_cast<float*>(output.data) + row * output.count, output.count,
                    static_cast<float>(sum));
      }
    }
  }

  void score(std::size_t rows) noexcept {
    for (std::size_t row = 0; row < rows; ++row) {
      double sum = 0;
      for (const Bound& input : inputs_) sum += mean(input, row);
      static_cast<float*>(outputs_.front().data)[row] = static_cast<float>(sum);
    }
  }

  /// The first output, which is the only one.
  void predict(std::size_t rows) noexcept {
    for (std::size_t row = 0; row < rows; ++row) predict_row(row, outputs_.front().count);
  }

  void predict_row(std::size_t row, std::size_t count) noexcept {
    const TensorSpec& spec = outputs_.front().spec;
    const float* source = nullptr;
    double bias = 0;
    for (const Bound& input : inputs_) {
      const std::string& role = input.spec.role;
      if (role == "sample") {
        source = static_cast<const float*>(input.data) + row * count;
      } else {
        bias += (role == "timestep" ? 0.001 : 1) * mean(input, row);
      }
    }
    float* values = static_cast<float*>(outputs_.front().data) + row * count;
    const std::size_t width = count / static_cast<std::size_t>(spec.shape[1]);
    for (std::size_t i = 0; i < count; ++i) {
      const float own = source ? 0.1f * source[i] : 0.01f * static_cast<float>(i / width);
      values[i] = own + static_cast<float>(bias);
    }
  }

  /// What an action was made of, for those who check where it came from.
  void mark() noexcept {
    const Bound& output = outputs_.front();
    const auto dim = static_cast<std::size_t>(output.spec.shape[2]);
    float goal = 0;
    std::span<const float> state;
    for (const Bound& input : inputs_) {
      if (input.spec.role == "observation.state")
        state = {static_cast<const float*>(input.data), input.count};
      if (input.spec.role == "goal.state") goal = static_cast<float>(mean(input, 0));
    }
    auto* values = static_cast<float*>(output.data);
    for (std::size_t i = 0; i < output.count; ++i) {
      const std::size_t h = i / dim, d = i % dim;
      const float seen = d < state.size() ? state[d] : 0;
      values[i] = d + 1 == dim ? goal : seen + static_cast<float>(d == 0 ? h : 0);
    }
  }

  Status fail(const char* option, std::int64_t number) noexcept {
    try {
      error_ = option + std::to_string(number);
    } catch (...) {
      error_.clear();
    }
    return Status::engine_failure;
  }

  const StubOptions options_;
  StubFaults faults_;
  std::atomic<std::int64_t>& runs_;
  std::atomic<std::uint64_t>& draws_;
  const std::vector<int> rows_;
  std::vector<Bound> inputs_, outputs_;
  bool encodes_ = false, scores_ = false, acts_ = false;
  std::atomic<bool> terminated_ = false;
  std::string error_;
};

class StubModel final : public Model {
 public:
  StubModel(const GraphSpec& spec, const std::vector<int>& rows, const StubOptions& options)
      : spec_(spec), rows_(rows), options_(options) {}

  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return std::make_unique<StubGraph>(spec_, rows_, tensors, options_);
  }

 private:
  const GraphSpec spec_;
  const std::vector<int> rows_;
  const StubOptions options_;
};

class StubEngine final : public Engine {
 public:
  explicit StubEngine(const EngineOptions& options) : options_(stub_options(options.provider_options)) {
    if (options.provider != "cpu") {
      throw ProviderError(expected("provider", "cpu (the stub engine)", "'" + options.provider + "'"));
    }
  }

  std::set<std::string> files(const GraphSpec&) override { return {}; }

  std::shared_ptr<const Model> load(const Files&, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    choices_.push_back({spec.file, "stub", "engine: stub"});
    return std::make_shared<StubModel>(spec, rows, options_);
  }

  std::unique_ptr<Tensors> tensors() const override { return std::make_unique<StubTensors>(); }
  std::string description() const override { return "stub, cpu, 1 thread"; }
  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  const StubOptions options_;
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_stub_engine(const EngineOptions& options) {
  return std::make_unique<StubEngine>(options);
}

}  // namespace keystep
