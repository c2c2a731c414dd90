// The words that a text encoder knows, where its graph looks them up in a table.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>

namespace keystep {

/// Read out of the graph that will run, so that it cannot differ from it. Only the word-level tokeniser that
/// keystep exports is understood (lower case, words of [a-z0-9]+, a LabelEncoder with a string for each):
/// others split what they do not know into pieces that they do, and have no unknown words.
class Vocabulary {
 public:
  Vocabulary() = default;  ///< nothing is known about it, nothing is doubted
  /// Of an ONNX model; as by default if it has no such tokeniser, or cannot be read.
  explicit Vocabulary(std::string_view onnx_model);

  /// Why the encoder may not understand `text`: it does not know most of its words. Otherwise empty.
  std::string doubt(std::string_view text) const;

 private:
  std::unordered_set<std::string> words_;
};

}  // namespace keystep
