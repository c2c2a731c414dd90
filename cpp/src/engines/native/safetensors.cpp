#include "engines/native/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "bundle_check.hpp"
#include "keystep/status.hpp"

namespace keystep::native {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxHeaderBytes = std::size_t{16} << 20;
constexpr std::size_t kLengthBytes = 8;

const std::map<std::string, std::size_t> kElementBytes = {{"F32", 4}, {"BF16", 2}, {"I8", 1}};

/// a * b <= limit, without overflow.
bool fits(std::size_t a, std::size_t b, std::size_t limit) { return b == 0 || a <= limit / b; }

/// A whole number of the header. Throws BundleError.
std::size_t count_of(const std::string& field, const json& value) {
  if (!value.is_number_unsigned()) refuse(field, "whole numbers", value.dump());
  return value.get<std::size_t>();
}

/// The header's entry of one tensor. `data`: where its bytes may lie. Throws json::exception or BundleError.
Tensor tensor_of(const std::string& field, const json& entry, const std::byte* data, std::size_t size) {
  Tensor tensor{entry.at("dtype").get<std::string>(), {}, nullptr};
  const auto known = kElementBytes.find(tensor.dtype);
  if (known == kElementBytes.end()) refuse(field + ".dtype", "F32, BF16 or I8", tensor.dtype);
  std::size_t bytes = known->second;
  if (!entry.at("shape").is_array()) refuse(field + ".shape", "an array", entry.at("shape").dump());
  for (const json& extent : entry.at("shape")) {
    const std::size_t length = count_of(field + ".shape", extent);
    if (!fits(bytes, length, size)) {
      refuse(field + ".shape", "a shape that fits into the file", entry.at("shape").dump());
    }
    bytes *= length;
    tensor.shape.push_back(static_cast<std::int64_t>(length));
  }
  const json& offsets = entry.at("data_offsets");
  if (offsets.size() != 2) refuse(field + ".data_offsets", "begin and end", offsets.dump());
  const std::size_t begin = count_of(field + ".data_offsets", offsets.at(0)),
                    end = count_of(field + ".data_offsets", offsets.at(1));
  if (begin > end || end > size || end - begin != bytes) {
    refuse(field + ".data_offsets", std::to_string(bytes) + " bytes inside the file",
           entry.at("data_offsets").dump());
  }
  tensor.data = data + begin;
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % known->second != 0) {
    refuse(field + ".data_offsets", "an aligned tensor", entry.at("data_offsets").dump());
  }
  return tensor;
}

}  // namespace

std::size_t Tensor::elements() const noexcept {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

Safetensors::Safetensors(const std::filesystem::path& file) : name_(file.filename().string()) {
  static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");
  const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status{};
  const bool readable = descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  void* mapped = MAP_FAILED;
  if (readable && status.st_size > 0) {
    size_ = static_cast<std::size_t>(status.st_size);
    // All of it will be read: one call instead of a fault for every page.
    mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
  }
  if (descriptor >= 0) close(descriptor);  // the mapping keeps the file
  if (mapped == MAP_FAILED) refuse(name_, "a readable safetensors file", "none");
  bytes_ = static_cast<const std::byte*>(mapped);
  try {
    read_header();
  } catch (...) {
    munmap(mapped, size_);
    throw;
  }
}

Safetensors::~Safetensors() { munmap(const_cast<std::byte*>(bytes_), size_); }

void Safetensors::read_header() {
  std::uint64_t length = 0;
  if (size_ >= kLengthBytes) std::memcpy(&length, bytes_, kLengthBytes);
  if (length == 0 || length > kMaxHeaderBytes || length > size_ - kLengthBytes) {
    refuse(name_, "a safetensors header inside the file", std::to_string(length) + " bytes of header");
  }
  const auto* text = reinterpret_cast<const char*>(bytes_ + kLengthBytes);
  const std::byte* data = bytes_ + kLengthBytes + length;
  try {
    const json header = json::parse(text, text + length);
    check_metadata(header.value("__metadata__", std::map<std::string, std::string>()));
    for (const auto& [key, entry] : header.items()) {
      if (key == "__metadata__") continue;
      tensors_[key] = tensor_of(name_ + "." + key, entry, data, size_ - kLengthBytes - length);
    }
  } catch (const json::exception& error) {
    throw BundleError(expected(name_, "a safetensors header", error.what()));
  }
  check_overlap();
}

void Safetensors::check_metadata(const std::map<std::string, std::string>& metadata) const {
  for (const auto& [key, wanted] :
       {std::pair<std::string, std::string>("format", "keystep-unet1d"), {"version", "1"}}) {
    const auto found = metadata.find(key);
    const std::string got = found == metadata.end() ? "no such key" : "'" + found->second + "'";
    if (got != "'" + wanted + "'") refuse(name_ + ".__metadata__." + key, "'" + wanted + "'", got);
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
