// A safetensors file, mapped into memory and checked: 8 bytes of header length, a JSON header, the tensors'
// bytes (github.com/huggingface/safetensors, its format section).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace keystep::native {

struct Tensor {
  std::string dtype;  ///< as in the file: F32, BF16, I8, ...
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  ///< aligned to the element, valid as long as the file is open
  std::size_t elements() const noexcept;
};

class Safetensors {
 public:
  /// Throws BundleError: not readable, not of docs/bundle.md's format and version, or tensors that overlap or
  /// do not lie inside the file.
  explicit Safetensors(const std::filesystem::path& file);
  ~Safetensors();
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;

  /// Throws BundleError: no such tensor, another dtype than one of `dtypes`, another shape.
  const Tensor& tensor(const std::string& name, const std::vector<std::string>& dtypes,
                       const std::vector<std::int64_t>& shape) const;

 private:
  void read_header();
  void check_metadata(const std::map<std::string, std::string>& metadata) const;
  void check_overlap() const;

  std::string name_;  // of the file, for messages
  const std::byte* bytes_ = nullptr;
  std::size_t size_ = 0;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace keystep::native
