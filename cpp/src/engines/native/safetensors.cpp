#include "engines/native/safetensors.hpp"

#include <bit>
#include <cstring>

#include "bundle/bundle_check.hpp"
#include "bundle/json_text.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep::native {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxHeaderBytes = std::size_t{16} << 20;
constexpr std::size_t kLengthBytes = 8;
constexpr const char* kMetadata = "__metadata__";

const std::map<std::string, std::size_t> kElementBytes = {{"F32", 4}, {"BF16", 2}, {"I8", 1}};

/// a * b <= limit, without overflow.
bool fits(std::size_t a, std::size_t b, std::size_t limit) { return b == 0 || a <= limit / b; }

/// A member of the header's entry of one tensor. Throws BundleError.
const json& member(const std::string& field, const json& entry, const char* key) {
  if (!entry.is_object()) refuse(field, "an object", summary(entry));
  const auto found = entry.find(key);
  if (found == entry.end()) refuse(field + "." + key, "a value", "no such key");
  return *found;
}

/// An array of whole numbers of the header. Throws BundleError.
std::vector<std::size_t> counts_of(const std::string& field, const json& value) {
  if (!value.is_array()) refuse(field, "an array", summary(value));
  std::vector<std::size_t> counts;
  for (const json& item : value) {
    if (!item.is_number_unsigned()) refuse(field, "whole numbers", summary(item));
    counts.push_back(item.get<std::size_t>());
  }
  return counts;
}

/// Product of the shape's extents with `bytes`. Throws BundleError if it is more than `size`.
std::size_t bytes_of(const std::string& field, const std::vector<std::size_t>& shape, std::size_t bytes,
                     std::size_t size) {
  for (const std::size_t extent : shape) {
    if (!fits(bytes, extent, size)) refuse(field, "a shape that fits into the file", "a larger one");
    bytes *= extent;
  }
  return bytes;
}

/// The header's entry of one tensor. `data`: where its bytes may lie. Throws BundleError.
Tensor tensor_of(const std::string& field, const json& entry, const std::byte* data, std::size_t size) {
  const json& dtype = member(field, entry, "dtype");
  const auto known =
      dtype.is_string() ? kElementBytes.find(dtype.get_ref<const std::string&>()) : kElementBytes.end();
  if (known == kElementBytes.end()) refuse(field + ".dtype", "F32, BF16 or I8", summary(dtype));
  const std::vector<std::size_t> shape = counts_of(field + ".shape", member(field, entry, "shape"));
  const std::size_t bytes = bytes_of(field + ".shape", shape, known->second, size);
  const std::vector<std::size_t> offsets =
      counts_of(field + ".data_offsets", member(field, entry, "data_offsets"));
  if (offsets.size() != 2) {
    refuse(field + ".data_offsets", "begin and end", std::to_string(offsets.size()) + " numbers");
  }
  const auto [begin, end] = std::pair(offsets[0], offsets[1]);
  const std::string got = "[" + std::to_string(begin) + ", " + std::to_string(end) + "]";
  if (begin > end || end > size || end - begin != bytes) {
    refuse(field + ".data_offsets", std::to_string(bytes) + " bytes inside the file", got);
  }
  Tensor tensor{known->first, {shape.begin(), shape.end()}, data + begin};
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % known->second != 0) {
    refuse(field + ".data_offsets", "an aligned tensor", got);
  }
  return tensor;
}

}  // namespace

std::size_t Tensor::elements() const noexcept {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

Safetensors::Safetensors(const FileContent& content, std::string name) : name_(std::move(name)) {
  static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");
  read_header(content);
  check_overlap();
}

void Safetensors::read_header(const FileContent& content) {
  std::uint64_t length = 0;
  if (content.size() >= kLengthBytes) std::memcpy(&length, content.data(), kLengthBytes);
  if (length == 0 || length > kMaxHeaderBytes || length > content.size() - kLengthBytes) {
    refuse(name_, "a safetensors header inside the file", std::to_string(length) + " bytes of header");
  }
  const std::string_view text(reinterpret_cast<const char*>(content.data() + kLengthBytes), length);
  const std::byte* data = content.data() + kLengthBytes + length;
  const json header = parse_json(text, name_);
  if (!header.is_object()) refuse(name_, "a header that is an object", summary(header));
  check_metadata(header);
  for (const auto& [key, entry] : header.items()) {
    if (key == kMetadata) continue;
    tensors_[key] =
        tensor_of(name_ + "." + readable(key), entry, data, content.size() - kLengthBytes - length);
  }
}

void Safetensors::check_metadata(const json& header) const {
  const std::string field = name_ + "." + kMetadata;
  const json none = json::object();
  const json& metadata = header.contains(kMetadata) ? header.at(kMetadata) : none;
  if (!metadata.is_object()) refuse(field, "an object", summary(metadata));
  for (const auto& [key, wanted] : {std::pair("format", "keystep-unet1d"), {"version", "1"}}) {
    const auto found = metadata.find(key);
    if (found != metadata.end() && *found == wanted) continue;
    refuse(field + "." + key, std::string("'") + wanted + "'",
           found == metadata.end() ? "no such key" : summary(*found));
  }
}

/// Two tensors that share bytes are a mistake of the writer, or worse.
void Safetensors::check_overlap() const {
  std::map<const std::byte*, const std::string*> begins;
  const std::byte* end = nullptr;
  for (const auto& [key, tensor] : tensors_) {
    if (tensor.elements() == 0) continue;
    if (!begins.emplace(tensor.data, &key).second)
      refuse(name_ + "." + key, "bytes of its own", "another tensor's");
  }
  for (const auto& [begin, key] : begins) {
    if (begin < end) refuse(name_ + "." + *key, "bytes of its own", "another tensor's");
    const Tensor& tensor = tensors_.at(*key);
    end = begin + tensor.elements() * kElementBytes.at(tensor.dtype);
  }
}

const Tensor& Safetensors::tensor(const std::string& name, const std::vector<std::string>& dtypes,
                                  const std::vector<std::int64_t>& shape) const {
  const std::string field = name_ + "." + name;
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(field, "a tensor", "no such key");
  const Tensor& tensor = found->second;
  std::string wanted;
  bool known = false;
  for (const std::string& dtype : dtypes) {
    wanted += (wanted.empty() ? "" : " or ") + dtype;
    known = known || dtype == tensor.dtype;
  }
  if (!known) refuse(field + ".dtype", wanted, tensor.dtype);
  if (tensor.shape != shape) refuse(field + ".shape", to_string(shape), to_string(tensor.shape));
  return tensor;
}

}  // namespace keystep::native
