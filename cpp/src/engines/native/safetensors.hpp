// A safetensors file in memory, checked: 8 bytes of header length, a JSON header, the tensors'
// bytes (github.com/huggingface/safetensors, its format section).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"

namespace keystep::native {

struct Tensor {
  std::string dtype;  ///< as in the file: F32, BF16, I8, ...
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  ///< aligned to the element, valid as long as the content is
  std::size_t elements() const noexcept;
};

class Safetensors {
 public:
  /// `content` outlives this object, `name` is for messages. Throws BundleError: not of docs/bundle.md's
  /// format and version, or tensors that overlap or do not lie inside the file.
  Safetensors(const FileContent& content, std::string name);

  /// Throws BundleError: no such tensor, another dtype than one of `dtypes`, another shape.
  const Tensor& tensor(const std::string& name, const std::vector<std::string>& dtypes,
                       const std::vector<std::int64_t>& shape) const;

 private:
  void read_header(const FileContent& content);
  void check_metadata(const nlohmann::json& header) const;
  void check_overlap() const;

  const std::string name_;  // of the file, for messages
  std::map<std::string, Tensor> tensors_;
};

}  // namespace keystep::native
