#include "bundle/bundle_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "bundle/sha256.hpp"
#include "engines/cores.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxGraphBytes = std::uintmax_t{2} << 30;  // the limit of an ONNX protobuf
constexpr std::uintmax_t kMaxDataBytes = std::uintmax_t{1} << 40;   // of weights beside a graph
constexpr std::size_t kLargeBytes = std::size_t{1}
                                    << 30;  // such a file takes memory only once its hash is right

/// A regular file, open for reading.
class OpenFile {
 public:
  OpenFile(const fs::path& file, std::string field)
      : field_(std::move(field)),
        // Not blocking: a pipe that took the file's place must not hold us up.
        descriptor_(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
    struct stat status{};
    if (descriptor_.number < 0 || fstat(descriptor_.number, &status) != 0) refuse(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) refuse("no regular file");
    size_ = static_cast<std::size_t>(status.st_size);
  }

  std::size_t size() const noexcept { return size_; }

  void rewind() const {
    if (lseek(descriptor_.number, 0, SEEK_SET) != 0) refuse(std::strerror(errno));
  }

  /// The next `bytes`; `take` sees them piece by piece as they come.
  template <class Take>
  void read(std::byte* to, std::size_t bytes, const Take& take) const {
    constexpr std::size_t kPiece = std::size_t{1} << 18;  // stays in the cache for `take`
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t got = ::read(descriptor_.number, to + done, std::min(kPiece, bytes - done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) refuse(std::strerror(errno));
      if (got == 0) refuse("one that became shorter");
      take(std::span<const std::byte>(to + done, static_cast<std::size_t>(got)));
      done += static_cast<std::size_t>(got);
    }
  }

 private:
  struct Descriptor {
    explicit Descriptor(int opened) : number(opened) {}
    ~Descriptor() {
      if (number >= 0) close(number);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    const int number;
  };

  [[noreturn]] void refuse(const std::string& got) const {
    throw BundleError(expected(field_, "a readable file", got));
  }

  const std::string field_;
  const Descriptor descriptor_;
  std::size_t size_ = 0;
};

/// Hashes the file piece by piece; its content stays nowhere.
std::string streamed_hash(const OpenFile& file) {
  constexpr std::size_t kBuffer = std::size_t{1} << 18;
  const auto buffer = std::make_unique<std::byte[]>(kBuffer);
  Sha256 hash;
  for (std::size_t left = file.size(); left > 0; left -= std::min(kBuffer, left)) {
    file.read(buffer.get(), std::min(kBuffer, left), [&](auto piece) { hash.update(piece); });
  }
  return hash.finish();
}

/// A file that the manifest names, perhaps in several places.
struct NamedFile {
  std::string name;
  std::vector<std::pair<std::string, std::string>> hashes;  ///< (field, SHA-256)
  std::uintmax_t max_bytes = kMaxGraphBytes;
};

/// More than the weights of such a U-Net can need: every block as wide as the widest, all in fp32.
std::uintmax_t most_bytes(const UnetSpec& unet, const GraphSpec& denoise) {
  if (unet.kind != "conditional_unet1d") return kMaxDataBytes;
  constexpr std::uintmax_t kHeaderBytes = std::uintmax_t{17} << 20;
  const auto sample = std::ranges::find(denoise.inputs, "sample", &TensorSpec::role);
  const auto values = static_cast<std::uintmax_t>(sample->shape.back());
  const auto width = static_cast<std::uintmax_t>(std::ranges::max(unet.down_dims));
  const auto taps = static_cast<std::uintmax_t>(std::max(unet.kernel_size, 4));  // `grow` has four
  const std::uintmax_t blocks = 4 * unet.down_dims.size() + 2;
  const std::uintmax_t block = (2 * taps + 1) * (2 * width + values + 8) * width;
  const std::uintmax_t film_rows = static_cast<std::uintmax_t>(unet.condition) + unet.train_steps + 1;
  const std::uintmax_t most = kHeaderBytes + sizeof(float) * blocks * (block + film_rows * 2 * width);
  return std::min(most, kMaxDataBytes);
}

std::vector<NamedFile> named_files(const Bundle& bundle) {
  std::vector<NamedFile> files;
  const auto add = [&](const std::string& field, const FileSpec& file, std::uintmax_t max_bytes) {
    auto known = std::ranges::find(files, file.file, &NamedFile::name);
    if (known == files.end()) known = files.insert(files.end(), {file.file, {}, max_bytes});
    known->max_bytes = std::min(known->max_bytes, max_bytes);
    known->hashes.emplace_back(field, file.sha256);
  };
  const auto add_unet = [&](const std::string& field, const std::string& film, const std::string& denoise) {
    const auto found = bundle.graphs.find(film);
    if (found == bundle.graphs.end() || !found->second.unet) return;
    const UnetSpec& unet = *found->second.unet;
    add(field, {unet.file, unet.sha256}, most_bytes(unet, bundle.graphs.at(denoise)));
  };
  for (const auto& [key, graph] : bundle.graphs) {
    add("graphs." + key, {graph.file, graph.sha256}, kMaxGraphBytes);
    for (std::size_t i = 0; i < graph.external.size(); ++i) {
      add("graphs." + key + ".external[" + std::to_string(i) + "]", graph.external[i], kMaxDataBytes);
    }
  }
  add_unet("unet", "film", "denoise");
  add_unet("planner.unet", "plan_film", "plan_denoise");
  add("golden", bundle.golden, kMaxGraphBytes);
  return files;
}

bool is_hash(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void check_hash(const NamedFile& file, const std::string& got) {
  for (const auto& [field, wanted] : file.hashes) {
    if (got == wanted) continue;
    if (!is_hash(wanted)) {
      throw BundleError(
          expected(field + ".sha256", "64 lower-case hexadecimal digits", '"' + readable(wanted) + '"'));
    }
    const std::string why = " (" + readable(file.name) + " is damaged or was changed)";
    throw BundleError(expected(field + ".sha256", wanted, got + why));
  }
}

std::shared_ptr<FileContent> allocate(std::size_t bytes, const std::string& name, const std::string& field) {
  try {
    return std::make_shared<FileContent>(bytes);
  } catch (const std::bad_alloc&) {
    const std::string got = "'" + readable(name) + "' of " + std::to_string(bytes) + " bytes";
    throw BundleError(expected(field, "a file that fits into memory", got));
  }
}

/// Throws BundleError unless the hash is right. Not `kept`: null.
std::shared_ptr<const FileContent> read_one(const fs::path& folder, const NamedFile& file, bool kept) {
  const std::string field = file.hashes.front().first + ".file";
  const OpenFile in(file_inside(folder, file.name, field, file.max_bytes), field);
  if (!kept) {
    check_hash(file, streamed_hash(in));
    return nullptr;
  }
  if (in.size() > kLargeBytes) {
    check_hash(file, streamed_hash(in));
    in.rewind();
  }
  const auto content = allocate(in.size(), file.name, field);
  Sha256 hash;
  in.read(content->data(), in.size(), [&](auto piece) { hash.update(piece); });
  check_hash(file, hash.finish());
  return content;
}

/// `work(i)` for every i below `count`, on `threads` threads at most; the exception of the least i is thrown.
template <class Work>
void side_by_side(std::size_t count, std::size_t threads, const Work& work) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::exception_ptr> errors(count);
  const auto serve = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  std::vector<std::thread> others;
  try {
    for (std::size_t i = 1; i < std::min(threads, count); ++i) others.emplace_back(serve);
  } catch (const std::system_error&) {  // the system has no more threads: those that there are do it
  }
  serve();
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace

FileContent::FileContent(std::size_t size) : size_(size) {
  constexpr std::size_t kAlignment = 64;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, (size / kAlignment + 1) * kAlignment)));
  if (data_ == nullptr) throw std::bad_alloc();
}

void FileContent::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

const FileContent& content_of(const Files& files, const std::string& name) {
  const auto found = files.find(name);
  if (found != files.end()) return *found->second;
  throw BundleError(expected("file", "the content of '" + readable(name) + "'", "none in memory"));
}

std::string read_text(const fs::path& file, const std::string& field) {
  const OpenFile in(file, field);
  std::string text(in.size(), '\0');
  in.read(reinterpret_cast<std::byte*>(text.data()), text.size(), [](auto) {});
  return text;
}

fs::path file_inside(const fs::path& folder, const std::string& name, const std::string& field,
                     std::uintmax_t max_bytes) {
  const auto refuse = [&](const std::string& got) -> fs::path {
    throw BundleError(expected(field, "a file inside the bundle", "'" + readable(name) + "', which " + got));
  };
  if (name.find('\0') != std::string::npos)
    return refuse("holds a NUL");  // the system's path would end there
  const fs::path relative(name);
  if (name.empty()) return refuse("is empty");
  if (relative.is_absolute() || relative.has_root_path()) return refuse("is absolute");
  for (const fs::path& part : relative) {
    if (part == "..") return refuse("leaves the bundle");
  }
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error) return refuse("lies in an unreadable folder: " + error.message());
  const fs::path file = fs::canonical(root / relative, error);
  if (error) return refuse("cannot be opened: " + error.message());
  const fs::path inside = file.lexically_relative(root);
  if (inside.empty() || *inside.begin() == "..") return refuse("is a link out of the bundle");
  if (!fs::is_regular_file(file, error)) return refuse("is not a regular file");
  const std::uintmax_t bytes = fs::file_size(file, error);
  if (error) return refuse("cannot be read: " + error.message());
  if (bytes == 0) return refuse("is empty");
  if (bytes > max_bytes) {
    return refuse("has " + std::to_string(bytes) + " bytes, more than " + std::to_string(max_bytes));
  }
  return file;
}

void read_files(Bundle& bundle, const std::set<std::string>& kept) {
  const std::vector<NamedFile> files = named_files(bundle);
  std::vector<std::shared_ptr<const FileContent>> contents(files.size());
  side_by_side(files.size(), static_cast<std::size_t>(usable_cores()), [&](std::size_t i) {
    contents[i] = read_one(bundle.folder, files[i], kept.contains(files[i].name));
  });
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (contents[i]) bundle.files[files[i].name] = contents[i];
  }
}

std::string sha256_file(const fs::path& file) {
  return streamed_hash(OpenFile(file, readable(file.string())));
}

}  // namespace keystep
