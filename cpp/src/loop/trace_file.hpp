// The file that a trace grows in: whole packets only, another file when it is long, one error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace keystep {

class TraceFile {
 public:
  /// Creates or empties it. Throws Error.
  explicit TraceFile(std::filesystem::path path);
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  /// Appends whole packets. After a failure the file ends with those written before, and takes no more.
  bool append(std::string_view packets) noexcept;
  /// Goes on in NAME.2.EXT, NAME.3.EXT and so on. False if there cannot be one.
  bool next() noexcept;

  const std::filesystem::path& path() const noexcept { return path_; }  ///< of the first
  std::uint64_t size() const noexcept { return size_; }                 ///< of the current one
  std::uint64_t total() const noexcept { return before_ + size_; }
  const std::string& error() const noexcept { return error_; }

 private:
  bool fail(const std::filesystem::path& of, int code) noexcept;

  const std::filesystem::path path_;
  int descriptor_ = -1;
  int number_ = 1;
  std::uint64_t size_ = 0, before_ = 0;
  std::string error_;
};

}  // namespace keystep
