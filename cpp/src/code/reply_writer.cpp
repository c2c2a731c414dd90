#include "code/reply_writer.hpp"

#include <algorithm>

#include "keystep/code_text.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::size_t kMostCommented = 3;  // bytes, for one of code: "# " before an empty line

}  // namespace

ReplyWriter::ReplyWriter(const CodePlannerSpec& spec, const WordTokenizer& tokenizer, Decoder& decoder,
                         const CodeConstraint* constraint)
    : limit_(spec.reply_tokens),
      tokenizer_(tokenizer),
      decoder_(decoder),
      constraint_(constraint),
      sequence_(spec.context),
      reply_(spec.reply_tokens),
      likeliest_(spec.reply_tokens),
      bytes_(spec.reply_tokens * WordTokenizer::kMostBytes),
      text_(spec.reply_tokens * WordTokenizer::kMostBytes * kMostCommented) {
  if (constraint_ == nullptr || constraint_->shortest() <= limit_) return;
  const std::string least = std::to_string(constraint_->shortest());
  const std::string wanted = "at least " + least + " (the shortest reply that is code)";
  throw BundleError(expected("planner.reply_tokens", wanted, std::to_string(limit_)));
}

Status ReplyWriter::write(std::span<const Token> prompt, std::span<const Draft> drafts,
                          std::string_view commented, std::size_t early_stop, const Epoch& epoch) noexcept {
  reply_.clear();
  text_.clear();
  ended_ = false;
  if (constraint_ != nullptr) place_ = constraint_->start();
  while (!ended_ && reply_.size() < limit_) {
    if (const Status status = next(prompt, drafts, epoch); status != Status::ok) return status;
    if (!ended_ && !commented.empty() && stops(commented, early_stop)) return Status::ok;
  }
  return read() ? Status::ok : Status::engine_failure;
}

/// One pass, and what it says of the reply.
Status ReplyWriter::next(std::span<const Token> prompt, std::span<const Draft> drafts,
                         const Epoch& epoch) noexcept {
  sequence_.clear();
  const bool fits = sequence_.append(prompt) && sequence_.append(reply_.view());
  const Draft draft = rest_of(drafts);
  const std::span<const Token> tokens = fits ? sequence_.view() : std::span<const Token>();
  Status status = Status::ok;
  if (constraint_ == nullptr) {
    status = decoder_.run(tokens, draft, epoch, likeliest_);
  } else {
    const Allowed allowed{*constraint_, place_, limit_ - reply_.size()};
    status = decoder_.run(tokens, draft, epoch, likeliest_, &allowed);
  }
  return status == Status::ok ? take(draft) : status;
}

/// Of the first draft that begins with the reply so far, what comes next: without its end, behind which
/// nothing is asked, and at most as much as leaves room for one more token.
Draft ReplyWriter::rest_of(std::span<const Draft> drafts) const noexcept {
  const std::span<const Token> reply = reply_.view();
  for (const Draft draft : drafts) {
    if (draft.size() <= reply.size() + 1 || !std::ranges::equal(draft.first(reply.size()), reply)) continue;
    const std::size_t most = limit_ - 1 - reply.size();
    return draft.subspan(reply.size(), std::min(most, draft.size() - 1 - reply.size()));
  }
  return {};
}

/// What is likeliest, as far as the draft was right, and one token more.
Status ReplyWriter::take(Draft draft) noexcept {
  for (std::size_t i = 0; i < likeliest_.size(); ++i) {
    const Token token = likeliest_[i];
    ended_ = token == WordTokenizer::kEnd;
    if (ended_) break;
    if (!reply_.append(token)) return Status::engine_failure;  // a draft leaves room
    if (constraint_ != nullptr && !constraint_->advance(place_, token)) return Status::engine_failure;
    if (i == draft.size() || token != draft[i]) break;
  }
  return Status::ok;
}

/// Then the reply is `commented`.
bool ReplyWriter::stops(std::string_view commented, std::size_t early_stop) noexcept {
  if (!read() || !goes_on(text_.text(), commented, early_stop)) return false;
  text_.clear();
  return ended_ = text_.append(commented);
}

/// The text of the reply so far, for which there is room.
bool ReplyWriter::read() noexcept {
  bytes_.clear();
  text_.clear();
  return tokenizer_.decode(reply_.view(), bytes_) && append_as_utf8(bytes_.text(), text_);
}

}  // namespace keystep
