// An engine without a library, for tests and for measuring the loop itself. It reads no graph file; every
// tensor is a closed form of the bound inputs:
//
//   encode   condition[0, ...] = sum over the inputs of the mean of each; with a leading extent of 2
//   (guidance)
//            condition[1, ...] = 0, the null condition
//   denoise  model_output[b, ...] = 0.1 sample[b, ...] + 0.001 timestep + c_b
//   sample   actions = 0.5 noise + c_0
//
// where c_b is the sum over the condition tensors of the mean of row b. `provider_options` inject failures;
// runs of denoise and sample graphs are counted together, from 1:
//
//   stub.nan_at_run   that run's first output value is NaN
//   stub.fail_at_run  that run returns engine_failure
//   stub.sleep_us     every run, encode included, takes at least so long; `terminate` ends it
#include <algorithm>
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
  std::int64_t nan_at_run = 0, fail_at_run = 0, sleep_us = 0;  ///< 0: never
  std::int64_t runs = 0;
};

/// Only the leading extent 2 is taken for the two branches of guidance.
std::size_t branches_of(const TensorSpec& spec) noexcept {
  return !spec.shape.empty() && spec.shape[0] == 2 ? 2 : 1;
}

double mean(const Buffer& buffer, std::size_t row = 0, std::size_t rows = 1) noexcept {
  const std::size_t count = buffer.spec.elements() / rows;
  double sum = 0;
  if (buffer.spec.dtype == DType::float32) {
    const float* values = static_cast<const float*>(buffer.data) + row * count;
    sum = std::accumulate(values, values + count, 0.0);
  } else if (buffer.spec.dtype == DType::int64) {
    const std::int64_t* values = static_cast<const std::int64_t*>(buffer.data) + row * count;
    sum = static_cast<double>(std::accumulate(values, values + count, std::int64_t{0}));
  }
  return sum / static_cast<double>(count);
}

class StubGraph final : public Graph {
 public:
  StubGraph(const GraphSpec& spec, const std::map<std::string, Buffer>& buffers,
            std::shared_ptr<Injection> injection)
      : injection_(std::move(injection)) {
    for (const TensorSpec& tensor : spec.inputs) inputs_.push_back(buffers.at(tensor.name));
    for (const TensorSpec& tensor : spec.outputs) outputs_.push_back(buffers.at(tensor.name));
    encodes_ = outputs_.front().spec.role == "condition";
  }

  Status run() noexcept override {
    if (sleep()) return Status::interrupted;
    if (encodes_) {
      encode();
      return Status::ok;
    }
    ++injection_->runs;
    if (injection_->runs == injection_->fail_at_run) return fail();
    float* output = predict();
    if (injection_->runs == injection_->nan_at_run) *output = std::numeric_limits<float>::quiet_NaN();
    return Status::ok;
  }

  void terminate() noexcept override { terminated_ = true; }
  const std::string& error() const noexcept override { return error_; }

 private:
  /// True if terminated.
  bool sleep() noexcept {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::microseconds(injection_->sleep_us);
    while (injection_->sleep_us > 0 && Clock::now() < end && !terminated_) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return terminated_.exchange(false);
  }

  void encode() noexcept {
    double sum = 0;
    for (const Buffer& input : inputs_) sum += mean(input);
    for (const Buffer& output : outputs_) {
      float* values = static_cast<float*>(output.data);
      const std::size_t count = output.spec.elements();
      const std::size_t row = count / branches_of(output.spec);
      std::fill_n(values, row, static_cast<float>(sum));
      std::fill(values + row, values + count, 0.0f);
    }
  }

  float* predict() noexcept {
    const Buffer& output = outputs_.front();
    const bool whole = output.spec.role == "actions";
    const std::size_t rows = branches_of(output.spec);
    const std::size_t count = output.spec.elements() / rows;
    float* values = static_cast<float*>(output.data);
    for (std::size_t row = 0; row < rows; ++row) {
      const float* source = nullptr;
      double bias = 0;
      for (const Buffer& input : inputs_) {
        const std::string& role = input.spec.role;
        if (role == "sample" || role == "noise") source = static_cast<const float*>(input.data) + row * count;
        if (role == "condition") bias += mean(input, row, std::max(rows, branches_of(input.spec)));
        if (role == "timestep") bias += 0.001 * mean(input);
      }
      const float gain = whole ? 0.5f : 0.1f;
      for (std::size_t i = 0; i < count; ++i) {
        values[row * count + i] = gain * source[i] + static_cast<float>(bias);
      }
    }
    return values;
  }

  Status fail() noexcept {
    try {
      error_ = "stub.fail_at_run " + std::to_string(injection_->fail_at_run);
    } catch (...) {
      error_.clear();
    }
    return Status::engine_failure;
  }

  std::shared_ptr<Injection> injection_;
  std::vector<Buffer> inputs_, outputs_;
  bool encodes_ = false;
  std::atomic<bool> terminated_ = false;
  std::string error_;
};

std::int64_t count_of(const std::string& key, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return value;
  throw ArgumentError(expected("provider_options." + key, "an integer of 0 or more", "'" + text + "'"));
}

class StubEngine final : public Engine {
 public:
  explicit StubEngine(const EngineOptions& options) : injection_(std::make_shared<Injection>()) {
    if (options.provider != "cpu") {
      throw ProviderError(expected("provider", "cpu (the stub engine)", "'" + options.provider + "'"));
    }
    for (const auto& [key, value] : options.provider_options) {
      if (key == "stub.nan_at_run") {
        injection_->nan_at_run = count_of(key, value);
      } else if (key == "stub.fail_at_run") {
        injection_->fail_at_run = count_of(key, value);
      } else if (key == "stub.sleep_us") {
        injection_->sleep_us = count_of(key, value);
      } else {
        throw ArgumentError(expected("provider_options", "stub.nan_at_run | stub.fail_at_run | stub.sleep_us",
                                     "'" + key + "'"));
      }
    }
  }

  std::unique_ptr<Graph> load(const std::filesystem::path&, const GraphSpec& spec,
                              const std::map<std::string, Buffer>& buffers) override {
    return std::make_unique<StubGraph>(spec, buffers, injection_);
  }

  std::string description() const override { return "stub, cpu, 1 thread"; }

 private:
  std::shared_ptr<Injection> injection_;
};

}  // namespace

std::unique_ptr<Engine> make_stub_engine(const EngineOptions& options) {
  return std::make_unique<StubEngine>(options);
}

}  // namespace keystep
