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
// where c_b is the sum of mean_b over the inputs other than sample and timestep. `provider_options`
// inject failures; runs of a session's graphs that write no condition and no score are counted together, from
// 1:
//
//   stub.nan_at_run   that run's first output value is NaN
//   stub.fail_at_run  that run returns engine_failure
//   stub.hang_at_run  that run takes stub.hang_us more, whoever terminates it
//   stub.sleep_us     every run of any graph takes at least so long; `terminate` ends it
//   stub.jitter_us    and up to so much longer, by a fixed sequence of a session's
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <limits>
#include <numeric>
#include <thread>

#include "engines/engines.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

struct Injection {
  std::int64_t nan_at_run = 0, fail_at_run = 0, hang_at_run = 0;  ///< 0: never
  std::int64_t hang_us = 0, sleep_us = 0, jitter_us = 0;
};

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
  StubGraph(const GraphSpec& spec, const std::vector<int>& rows, Tensors& tensors, const Injection& injection)
      : injection_(injection),
        runs_(dynamic_cast<StubTensors&>(tensors).runs),
        draws_(dynamic_cast<StubTensors&>(tensors).draws),
        rows_(rows) {
    for (const TensorSpec& tensor : spec.inputs) inputs_.push_back(bound(spec, tensor, tensors));
    for (const TensorSpec& tensor : spec.outputs) outputs_.push_back(bound(spec, tensor, tensors));
    encodes_ = outputs_.front().spec.role == "condition";
    scores_ = outputs_.front().spec.role == kScoreRole;
  }

  Status run(int rows) noexcept override {
    if (std::ranges::find(rows_, rows) == rows_.end()) return refuse_rows(rows, error_);
    if (sleep()) return Status::interrupted;
    if (encodes_) {
      encode(static_cast<std::size_t>(rows));
      return Status::ok;
    }
    if (scores_) {
      score(static_cast<std::size_t>(rows));
      return Status::ok;
    }
    const std::int64_t run = ++runs_;
    if (run == injection_.hang_at_run) {
      std::this_thread::sleep_for(std::chrono::microseconds(injection_.hang_us));
    }
    if (run == injection_.fail_at_run) return fail();
    predict(static_cast<std::size_t>(rows));
    auto* output = static_cast<float*>(outputs_.front().data);
    if (run == injection_.nan_at_run) *output = std::numeric_limits<float>::quiet_NaN();
    return Status::ok;
  }

  void terminate() noexcept override { terminated_ = true; }
  const std::string& error() const noexcept override { return error_; }

 private:
  static Bound bound(const GraphSpec& graph, const TensorSpec& spec, Tensors& tensors) {
    const auto rows = static_cast<std::size_t>(has_rows(graph, spec) ? graph.rows : 1);
    return {spec, tensors.at(spec).data, rows, spec.elements() / rows};
  }

  /// True if terminated.
  bool sleep() noexcept {
    using Clock = std::chrono::steady_clock;
    const std::int64_t sleep_us = injection_.sleep_us + jitter();
    const auto end = Clock::now() + std::chrono::microseconds(sleep_us);
    while (sleep_us > 0 && Clock::now() < end && !terminated_) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return terminated_.exchange(false);
  }

  /// 0..jitter_us, by Knuth's multiplicative hash of how often it was asked.
  std::int64_t jitter() noexcept {
    if (injection_.jitter_us == 0) return 0;
    const std::uint64_t hash = (++draws_ * 0x9E3779B97F4A7C15u) >> 33;
    return static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(injection_.jitter_us + 1));
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

  Status fail() noexcept {
    try {
      error_ = "stub.fail_at_run " + std::to_string(injection_.fail_at_run);
    } catch (...) {
      error_.clear();
    }
    return Status::engine_failure;
  }

  const Injection injection_;
  std::atomic<std::int64_t>& runs_;
  std::atomic<std::uint64_t>& draws_;
  const std::vector<int> rows_;
  std::vector<Bound> inputs_, outputs_;
  bool encodes_ = false, scores_ = false;
  std::atomic<bool> terminated_ = false;
  std::string error_;
};

class StubModel final : public Model {
 public:
  StubModel(const GraphSpec& spec, const std::vector<int>& rows, const Injection& injection)
      : spec_(spec), rows_(rows), injection_(injection) {}

  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return std::make_unique<StubGraph>(spec_, rows_, tensors, injection_);
  }

 private:
  const GraphSpec spec_;
  const std::vector<int> rows_;
  const Injection injection_;
};

std::int64_t count_of(const std::string& key, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return value;
  throw ArgumentError(expected("provider_options." + key, "an integer of 0 or more", "'" + text + "'"));
}

class StubEngine final : public Engine {
 public:
  explicit StubEngine(const EngineOptions& options) {
    if (options.provider != "cpu") {
      throw ProviderError(expected("provider", "cpu (the stub engine)", "'" + options.provider + "'"));
    }
    const std::array<std::pair<const char*, std::int64_t*>, 6> known = {
        {{"stub.nan_at_run", &injection_.nan_at_run},
         {"stub.fail_at_run", &injection_.fail_at_run},
         {"stub.hang_at_run", &injection_.hang_at_run},
         {"stub.hang_us", &injection_.hang_us},
         {"stub.sleep_us", &injection_.sleep_us},
         {"stub.jitter_us", &injection_.jitter_us}}};
    for (const auto& [key, value] : options.provider_options) {
      const auto found = std::ranges::find(known, key, [](const auto& entry) { return entry.first; });
      if (found == known.end()) {
        throw ArgumentError(expected("provider_options",
                                     "stub.nan_at_run | stub.fail_at_run | stub.hang_at_run | stub.hang_us | "
                                     "stub.sleep_us | stub.jitter_us",
                                     "'" + key + "'"));
      }
      *found->second = count_of(key, value);
    }
  }

  std::set<std::string> files(const GraphSpec&) override { return {}; }

  std::shared_ptr<const Model> load(const Files&, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    choices_.push_back({spec.file, "stub", "engine: stub"});
    return std::make_shared<StubModel>(spec, rows, injection_);
  }

  std::unique_ptr<Tensors> tensors() const override { return std::make_unique<StubTensors>(); }
  std::string description() const override { return "stub, cpu, 1 thread"; }
  std::vector<EngineChoice> choices() const override { return choices_; }

 private:
  Injection injection_;
  std::vector<EngineChoice> choices_;
};

}  // namespace

std::unique_ptr<Engine> make_stub_engine(const EngineOptions& options) {
  return std::make_unique<StubEngine>(options);
}

}  // namespace keystep
