// The graphs `embed` and `decode` of a planner that writes, without a network: what comes next is a function
// of all that stands in the cache, so that a cache which is set back wrongly, or keeps an old picture, shows.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "code/decoder.hpp"
#include "engines/engines.hpp"
#include "keystep/code_planner_spec.hpp"
#include "keystep/engine.hpp"
#include "keystep/status.hpp"

namespace keystep::test {

constexpr std::int64_t kVectorWidth = 2;

/// One position of a sequence: a token as {id, 0}; of what is seen {number, 1 + row}; felt {number, -1}.
using Vector = std::array<float, kVectorWidth>;
/// The likeliest token behind a sequence.
using NextToken = std::function<Token(std::span<const Vector>)>;

struct FakeFaults {
  std::int64_t nan_at_run = 0, fail_at_run = 0;  ///< of `decode`, from 1; 0: never
};

struct FakeScript {
  NextToken next;
  FakeFaults faults{};
  std::int64_t runs = 0, rows = 0;     ///< of `decode` so far, and what went through
  std::int64_t most_tokens_asked = 0;  ///< logits of one run
};

inline GraphSpec embed_spec(const CodePlannerSpec& spec) {
  const auto context = static_cast<std::int64_t>(spec.context);
  return {"embed.onnx",
          "",
          {{"plan.tokens", DType::int64, {1, context}, "tokens"}},
          {{"plan.vectors", DType::float32, {1, context, kVectorWidth}, "vectors"}}};
}

inline GraphSpec decode_spec(const CodePlannerSpec& spec) {
  const auto context = static_cast<std::int64_t>(spec.context);
  const std::vector<std::int64_t> cache = {1, 1, context, kVectorWidth};
  return {"decode.onnx",
          "",
          {{"plan.vectors", DType::float32, {1, context, kVectorWidth}, "vectors"},
           {"plan.length", DType::int64, {1}, "length"},
           {"plan.first", DType::int64, {1}, "first"},
           {"plan.past.0.key", DType::float32, cache, "cache.0.key"}},
          {{"plan.logits",
            DType::float32,
            {1, static_cast<std::int64_t>(spec.reply_tokens), static_cast<std::int64_t>(spec.vocabulary)},
            "logits"},
           {"plan.present.0.key", DType::float32, cache, "cache.0.key"}}};
}

class FakeEmbed final : public Graph {
 public:
  FakeEmbed(const CodePlannerSpec& spec, const Tensors& tensors)
      : tokens_(tensors.data<std::int64_t>(embed_spec(spec), "tokens")),
        vectors_(tensors.data<float>(embed_spec(spec), "vectors")) {}

  Status run(int rows) noexcept override {
    for (int i = 0; i < rows; ++i) {
      vectors_[kVectorWidth * i] = static_cast<float>(tokens_[i]);
      vectors_[kVectorWidth * i + 1] = 0;
    }
    return Status::ok;
  }
  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }

 private:
  const std::int64_t* tokens_;
  float* vectors_;
  std::string error_;
};

class FakeDecode final : public Graph {
 public:
  FakeDecode(const CodePlannerSpec& spec, const Tensors& tensors, FakeScript& script)
      : script_(script),
        vocabulary_(spec.vocabulary),
        never_(spec.never),
        vectors_(tensors.data<float>(decode_spec(spec), "vectors")),
        first_(tensors.data<std::int64_t>(decode_spec(spec), "first")),
        cached_(tensors.data<float>(decode_spec(spec), "cache.0.key")),
        logits_(tensors.data<float>(decode_spec(spec), "logits")),
        cache_(decode_spec(spec), tensors) {}

  Status run(int rows) noexcept override {
    if (const Status status = cache_.begin(rows, error_); status != Status::ok) return status;
    ++script_.runs;
    if (script_.runs == script_.faults.fail_at_run) {
      error_ = "decode: expected to run, got a fault";
      return Status::engine_failure;
    }
    std::copy_n(vectors_, kVectorWidth * rows, cached_ + kVectorWidth * cache_.length());
    script_.rows += rows;
    script_.most_tokens_asked = std::max(script_.most_tokens_asked, rows - *first_);
    for (std::int64_t row = *first_; row < rows; ++row) write(cache_.length() + row + 1, row - *first_);
    if (script_.runs == script_.faults.nan_at_run) *logits_ = std::numeric_limits<float>::quiet_NaN();
    cache_.end(rows);
    return Status::ok;
  }
  std::int64_t length() const noexcept override { return cache_.length(); }
  void set_length(std::int64_t length) noexcept override { cache_.set_length(length); }
  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }

 private:
  /// Logits behind the first `count` positions. What is never written would be likeliest.
  void write(std::int64_t count, std::int64_t row) noexcept {
    const std::span seen(reinterpret_cast<const Vector*>(cached_), static_cast<std::size_t>(count));
    float* logits = logits_ + static_cast<std::size_t>(row) * vocabulary_;
    for (std::size_t i = 0; i < vocabulary_; ++i) logits[i] = -0.01f * static_cast<float>(i);
    for (const Token token : never_) logits[token] = 100;
    logits[script_.next(seen)] = 10;
  }

  FakeScript& script_;
  const std::size_t vocabulary_;
  const std::vector<Token> never_;
  const float* vectors_;
  const std::int64_t* first_;
  float *cached_, *logits_;
  Cache cache_;
  std::string error_;
};

/// A decoder, its tensors, and what is seen.
struct FakeDecoder {
  FakeDecoder(const CodePlannerSpec& spec, NextToken next)
      : script{std::move(next)}, embed(embed_spec(spec)), decode(decode_spec(spec)) {
    tensors = make_host_tensors();
    tensors->add(embed);
    tensors->add(decode);
    const TensorSpec picture{
        "plan.seen", DType::float32, {1, static_cast<std::int64_t>(spec.image_tokens), kVectorWidth}, "seen"};
    seen = make_host_tensor(picture);
    felt = make_host_tensor({"plan.felt", DType::float32, {1, 1, kVectorWidth}, "felt"});
    DecoderGraphs graphs{embed, decode, std::make_unique<FakeEmbed>(spec, *tensors),
                         std::make_unique<FakeDecode>(spec, *tensors, script)};
    decoder = std::make_unique<Decoder>(spec, std::move(graphs),
                                        SeenTensors{seen.get(), spec.feels.empty() ? nullptr : felt.get()},
                                        *tensors);
  }

  /// A new picture.
  void look(float number) {
    const auto rows = static_cast<std::size_t>(seen->spec.shape[1]);
    for (std::size_t i = 0; i < rows; ++i) {
      static_cast<float*>(seen->data)[2 * i] = number;
      static_cast<float*>(seen->data)[2 * i + 1] = static_cast<float>(1 + i);
    }
    static_cast<float*>(felt->data)[0] = number;
    static_cast<float*>(felt->data)[1] = -1;
    decoder->look();
  }

  FakeScript script;
  std::unique_ptr<Tensors> tensors;
  std::unique_ptr<Tensor> seen, felt;
  GraphSpec embed, decode;
  std::unique_ptr<Decoder> decoder;
};

}  // namespace keystep::test
