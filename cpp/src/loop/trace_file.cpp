#include "loop/trace_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "keystep/status.hpp"

namespace keystep {
namespace {

int create(const std::filesystem::path& path) noexcept {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

}  // namespace

TraceFile::TraceFile(std::filesystem::path path) : path_(std::move(path)), descriptor_(create(path_)) {
  if (descriptor_ == -1) {
    throw Error(
        expected("trace", "a file that can be written", path_.string() + " (" + std::strerror(errno) + ")"));
  }
}

TraceFile::~TraceFile() {
  if (descriptor_ != -1) ::close(descriptor_);
}

bool TraceFile::append(std::string_view packets) noexcept {
  if (descriptor_ == -1) return false;
  std::size_t done = 0;
  while (done < packets.size()) {
    const ssize_t written = ::write(descriptor_, packets.data() + done, packets.size() - done);
    if (written == -1 && errno == EINTR) continue;
    if (written == -1) return fail(path_, errno);
    done += static_cast<std::size_t>(written);
  }
  size_ += done;
  return true;
}

bool TraceFile::next() noexcept {
  if (descriptor_ == -1) return false;
  ::close(std::exchange(descriptor_, -1));
  before_ += std::exchange(size_, 0);
  ++number_;
  try {
    std::filesystem::path following = path_;
    following.replace_extension("." + std::to_string(number_) + path_.extension().string());
    descriptor_ = create(following);
    return descriptor_ != -1 || fail(following, errno);
  } catch (...) {
    return fail(path_, ENOMEM);
  }
}

/// What was written of a packet that did not fit is cut off.
bool TraceFile::fail(const std::filesystem::path& of, int code) noexcept {
  if (descriptor_ != -1) {
    [[maybe_unused]] const int cut = ::ftruncate(descriptor_, static_cast<off_t>(size_));
    ::close(std::exchange(descriptor_, -1));
  }
  try {
    error_ = expected("trace", "room for more in " + of.string(), std::strerror(code));
  } catch (...) {
    error_ = "trace: no memory";  // short enough to need none
  }
  return false;
}

}  // namespace keystep
