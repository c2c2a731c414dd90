#include "code/decoder.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
#include "policy/run_graph.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

constexpr std::size_t kMessageBytes = 256;

Tensor& tensor(const Tensors& tensors, const GraphSpec& graph, const char* role) {
  if (Tensor* found = tensors.find(graph, role)) return *found;
  throw BundleError(expected("graphs", std::string("a tensor with the role ") + role, "none"));
}

template <class T>
T* data(Tensor& tensor) noexcept {
  return static_cast<T*>(tensor.data);
}

}  // namespace

Decoder::Decoder(const CodePlannerSpec& spec, DecoderGraphs graphs, const SeenTensors& seen,
                 const Tensors& tensors)
    : width_(spec.width),
      vocabulary_(spec.vocabulary),
      image_tokens_(spec.image_tokens),
      never_(spec.never),
      graphs_(std::move(graphs)),
      seen_(seen),
      tokens_(tensor(tensors, graphs_.embed_spec, "tokens")),
      vectors_(tensor(tensors, graphs_.embed_spec, "vectors")),
      first_(tensor(tensors, graphs_.decode_spec, "first")),
      logits_(tensor(tensors, graphs_.decode_spec, "logits")),
      known_(spec.context),
      wanted_(spec.context) {
  error_.reserve(kMessageBytes);
}

void Decoder::forget() noexcept {
  known_.clear();
  graphs_.decode->set_length(0);
  look();
}

void Decoder::look() noexcept {
  looked_ = true;
  passes_ = 0;
  computed_ = 0;
}

void Decoder::terminate() noexcept {
  graphs_.embed->terminate();
  graphs_.decode->terminate();
}

bool Decoder::is_live(Token token) const noexcept {
  return token == WordTokenizer::kImage || (seen_.felt != nullptr && token == WordTokenizer::kProprioception);
}

/// How much of the cache is good for `tokens`, of which the last one is computed in any case.
std::size_t Decoder::shared(std::span<const Token> tokens) const noexcept {
  const std::size_t most = std::min(tokens.size() - 1, known_.size());
  std::size_t same = 0;
  while (same < most && tokens[same] == known_[same] && !(looked_ && is_live(tokens[same]))) ++same;
  return same;
}

Status Decoder::run(std::span<const Token> tokens, std::span<const Token> draft, const Epoch& epoch,
                    Bounded<Token>& likeliest, const Allowed* allowed) noexcept {
  likeliest.clear();
  wanted_.clear();
  if (tokens.empty() || !wanted_.append(tokens) || !wanted_.append(draft)) {
    return refuse(Status::engine_failure,
                  "prompt: expected tokens that fit into the context, got none or more");
  }
  const std::size_t same = shared(tokens);
  graphs_.decode->set_length(static_cast<std::int64_t>(same));
  known_.shorten(same);
  const std::span<const Token> missing = wanted_.view().subspan(same);
  const Span span(kDecodePassLabel, std::ssize(missing));
  if (const Status status = embed(missing, epoch); status != Status::ok) return status;
  put_seen(same);
  if (const Status status = decode(missing.size(), draft.size() + 1, epoch); status != Status::ok) {
    graphs_.decode->set_length(static_cast<std::int64_t>(same));  // it may have run
    return status;
  }
  looked_ = false;
  ++passes_;
  computed_ += missing.size();
  if (!known_.append(missing)) return Status::engine_failure;  // as large as `wanted_`
  return choose(draft, likeliest, allowed);
}

Status Decoder::embed(std::span<const Token> tokens, const Epoch& epoch) noexcept {
  std::ranges::copy(tokens, data<std::int64_t>(tokens_));
  const auto count = static_cast<int>(tokens.size());
  if (const Status status = tokens_.upload(); status != Status::ok) return without_message(status, error_);
  if (const Status status = run_graph(*graphs_.embed, count, epoch, error_); status != Status::ok)
    return status;
  return without_message(vectors_.download(), error_);
}

/// In place of the tokens that stand for it, behind the first `same`.
void Decoder::put_seen(std::size_t same) noexcept {
  const std::span<const Token> wanted = wanted_.view();
  auto row = static_cast<std::size_t>(std::ranges::count(wanted.first(same), WordTokenizer::kImage));
  float* vector = data<float>(vectors_);
  for (const Token token : wanted.subspan(same)) {
    const float* from = nullptr;
    if (token == WordTokenizer::kImage) from = data<float>(*seen_.seen) + (row++ % image_tokens_) * width_;
    if (token == WordTokenizer::kProprioception && seen_.felt != nullptr) from = data<float>(*seen_.felt);
    if (from != nullptr) std::copy_n(from, width_, vector);
    vector += width_;
  }
}

/// Logits of the last `rows` tokens.
Status Decoder::decode(std::size_t tokens, std::size_t rows, const Epoch& epoch) noexcept {
  *data<std::int64_t>(first_) = static_cast<std::int64_t>(tokens - rows);
  const auto count = static_cast<int>(tokens);
  if (const Status status = vectors_.upload(); status != Status::ok) return without_message(status, error_);
  if (const Status status = first_.upload(); status != Status::ok) return without_message(status, error_);
  if (const Status status = run_graph(*graphs_.decode, count, epoch, error_); status != Status::ok)
    return status;
  return without_message(logits_.download(), error_);
}

/// Of equals the first, as torch and numpy take it.
Status Decoder::choose(std::span<const Token> draft, Bounded<Token>& likeliest,
                       const Allowed* allowed) noexcept {
  float* logits = data<float>(logits_);
  const std::size_t rows = draft.size() + 1;
  if (!all_finite({logits, rows * vocabulary_})) {
    forget();
    return refuse(Status::rejected_plan, "logits: expected finite numbers, got NaN or Inf");
  }
  if (allowed != nullptr) return choose_allowed(draft, likeliest, *allowed);
  for (std::size_t row = 0; row < rows; ++row, logits += vocabulary_) {
    for (const Token token : never_) logits[token] = -std::numeric_limits<float>::infinity();
    const float* best = std::max_element(logits, logits + vocabulary_);
    if (!likeliest.append(static_cast<Token>(best - logits))) return Status::engine_failure;
  }
  return Status::ok;
}

/// What is allowed behind a token of the draft is known as far as the draft is written.
Status Decoder::choose_allowed(std::span<const Token> draft, Bounded<Token>& likeliest,
                               Allowed allowed) noexcept {
  const float* logits = data<float>(logits_);
  for (std::size_t row = 0; row <= draft.size(); ++row, logits += vocabulary_, --allowed.left) {
    const Token best = allowed.constraint.likeliest({logits, vocabulary_}, allowed.place, allowed.left);
    if (best == WordTokenizer::kNone) {
      return refuse(Status::engine_failure, "reply: expected room to end, got none");
    }
    if (!likeliest.append(best)) return Status::engine_failure;
    const bool goes_on = row < draft.size() && best == draft[row] && best != WordTokenizer::kEnd;
    if (!goes_on) break;
    if (!allowed.constraint.advance(allowed.place, best)) return Status::engine_failure;  // it is allowed
  }
  return Status::ok;
}

Status Decoder::refuse(Status status, const char* message) noexcept {
  try {
    error_ = message;
  } catch (...) {
    error_.clear();  // out of memory: the status still tells
  }
  return status;
}

}  // namespace keystep
