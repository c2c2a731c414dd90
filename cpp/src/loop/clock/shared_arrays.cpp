#include "keystep/shared_arrays.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "loop/clock/shared_layout.hpp"

namespace keystep {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& wanted, const std::string& got) {
  throw Error(expected("shared memory " + name, wanted, got));
}

std::string path_of(const std::string& name) {
  const bool plain = !name.empty() && name.size() < 200 && name.find('/') == std::string::npos;
  if (!plain || name.front() == '.') {
    throw ArgumentError(expected("name", "1..199 bytes without '/', not beginning with '.'", name));
  }
  return "/" + name;
}

std::string why() { return std::generic_category().message(errno); }

/// Memory that two processes see.
class Mapping {
 public:
  Mapping(int file, std::size_t bytes) : bytes_(bytes) {
    at_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  ~Mapping() {
    if (*this) munmap(at_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  explicit operator bool() const noexcept { return at_ != MAP_FAILED; }
  std::byte* data() const noexcept { return static_cast<std::byte*>(at_); }
  std::size_t size() const noexcept { return bytes_; }

 private:
  void* at_;
  std::size_t bytes_;
};

struct File {
  explicit File(int opened) : number(opened) {}
  ~File() {
    if (number >= 0) close(number);
  }
  File(File&& other) noexcept : number(std::exchange(other.number, -1)) {}
  File& operator=(File&&) = delete;
  int number;
};

/// A name that goes again unless all comes to a good end.
class NewName {
 public:
  explicit NewName(std::string path) : path_(std::move(path)) {}
  ~NewName() {
    if (!path_.empty()) shm_unlink(path_.c_str());
  }
  NewName(const NewName&) = delete;
  NewName& operator=(const NewName&) = delete;
  void keep() noexcept { path_.clear(); }

 private:
  std::string path_;
};

void reserve(int file, std::size_t bytes, const std::string& name) {
  int error = 0;
  do {
    error = posix_fallocate(file, 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  if (error != 0) throw Error("shared memory " + name + ": " + std::generic_category().message(error));
}

using Word = std::atomic_ref<std::uint64_t>;
static_assert(Word::is_always_lock_free);

/// Words are stored with release and loaded with acquire: whoever reads one of a later record also sees the
/// count that was there before it was written.
void store(std::byte* to, const void* from, std::size_t bytes) noexcept {
  const auto* source = static_cast<const std::byte*>(from);
  auto* words = reinterpret_cast<std::uint64_t*>(to);
  for (std::size_t done = 0; done < bytes; done += sizeof *words) {
    std::uint64_t value = 0;
    std::memcpy(&value, source + done, std::min(sizeof value, bytes - done));
    Word(*words++).store(value, std::memory_order_release);
  }
}

void load(std::uint64_t* to, std::byte* from, std::size_t bytes) noexcept {
  auto* words = reinterpret_cast<std::uint64_t*>(from);
  for (std::size_t i = 0; i < bytes / sizeof *words; ++i) {
    to[i] = Word(words[i]).load(std::memory_order_acquire);
  }
}

/// Throws ArgumentError.
SharedEntry entry_of(const SharedField& field, std::uint64_t offset) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // bytes of an array
  SharedEntry entry{};
  const bool named = !field.name.empty() && field.name.size() < sizeof entry.name;
  if (!named) throw ArgumentError(expected("fields", "names of 1..79 bytes", field.name));
  if (field.dtype == DType::string || field.shape.empty() || field.shape.size() > 3) {
    throw ArgumentError(expected(field.name, "numbers of 1..3 axes", "something else"));
  }
  auto bytes = static_cast<std::int64_t>(size_of(field.dtype));
  for (const std::int64_t extent : field.shape) {
    if (extent < 1 || extent > kMost / bytes) {
      throw ArgumentError(
          expected(field.name, "extents of 1 or more, at most 2 GiB", std::to_string(extent)));
    }
    bytes *= extent;
  }
  field.name.copy(entry.name, sizeof entry.name - 1);
  entry.dtype = static_cast<std::uint32_t>(field.dtype);
  entry.axes = static_cast<std::uint32_t>(field.shape.size());
  std::ranges::copy(field.shape, entry.shape);
  entry.offset = offset;
  entry.bytes = static_cast<std::uint64_t>(bytes);
  return entry;
}

std::vector<SharedField> fields_of(const std::string& name, const std::vector<SharedEntry>& entries) {
  std::vector<SharedField> fields;
  for (const SharedEntry& entry : entries) {
    const bool sound = entry.axes >= 1 && entry.axes <= 3 && entry.dtype <= 2 &&
                       std::memchr(entry.name, 0, sizeof entry.name) != nullptr;
    if (!sound) refuse(name, "a table of fields", "a damaged one");
    fields.push_back({entry.name, static_cast<DType>(entry.dtype), {entry.shape, entry.shape + entry.axes}});
  }
  return fields;
}

}  // namespace

SharedLayout::SharedLayout(const std::vector<SharedField>& fields) {
  if (fields.empty() || fields.size() > kMaxSharedFields) {
    throw ArgumentError(expected("fields", "1..64 of them", std::to_string(fields.size())));
  }
  for (const SharedField& field : fields) {
    const auto same = [&](const SharedEntry& entry) { return field.name == entry.name; };
    if (std::ranges::any_of(entries, same))
      throw ArgumentError(expected("fields", "names that differ", field.name));
    entries.push_back(entry_of(field, slot_bytes));
    slot_bytes += aligned(entries.back().bytes);
  }
  slots = aligned(sizeof(SharedHeader) + entries.size() * sizeof(SharedEntry));
  bytes = slots + 2 * slot_bytes;
}

struct SharedArrays::Impl {
  Impl(std::string called, std::vector<SharedField> of, File opened)
      : name(std::move(called)),
        fields(std::move(of)),
        layout(fields),
        file(std::move(opened)),
        memory(file.number, layout.bytes),
        snapshot(layout.slot_bytes / sizeof(std::uint64_t)) {
    if (!memory) throw Error("shared memory " + name + ": " + why());
  }

  SharedHeader& header() const noexcept { return *reinterpret_cast<SharedHeader*>(memory.data()); }
  Word count() const noexcept { return Word(header().count); }
  std::byte* slot(std::uint64_t record) const noexcept {
    return memory.data() + layout.slots + record % 2 * layout.slot_bytes;
  }

  const std::string name;
  const std::vector<SharedField> fields;
  const SharedLayout layout;
  const File file;  // whoever writes holds its lock, which ends with the process
  const Mapping memory;
  std::vector<std::uint64_t> snapshot, attempt = snapshot;
  std::uint64_t seen = 0;
  bool writes = false;
  RecordStamp stamp;
};

std::unique_ptr<SharedArrays> SharedArrays::create(const std::string& name, std::vector<SharedField> fields) {
  const std::string path = path_of(name);
  const SharedLayout layout(fields);
  File file(shm_open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (file.number < 0) throw Error("shared memory " + name + ": " + why());
  NewName made(path);
  reserve(file.number, layout.bytes, name);
  auto impl = std::make_unique<Impl>(name, std::move(fields), std::move(file));
  SharedHeader& header = impl->header();
  header.version = kSharedVersion;
  header.fields = static_cast<std::uint32_t>(layout.entries.size());
  header.slot_bytes = layout.slot_bytes;
  header.bytes = layout.bytes;
  std::memcpy(impl->memory.data() + sizeof header, layout.entries.data(),
              layout.entries.size() * sizeof(SharedEntry));
  store(impl->memory.data(), kSharedMagic, sizeof kSharedMagic);
  std::unique_ptr<SharedArrays> arrays(new SharedArrays(std::move(impl)));
  made.keep();
  return arrays;
}

std::unique_ptr<SharedArrays> SharedArrays::open(const std::string& name) {
  File file(shm_open(path_of(name).c_str(), O_RDWR | O_CLOEXEC, 0));
  if (file.number < 0) throw Error("shared memory " + name + ": " + why());
  struct stat found{};
  fstat(file.number, &found);
  const auto bytes = static_cast<std::size_t>(found.st_size);
  if (bytes < sizeof(SharedHeader)) refuse(name, "keystep's arrays", std::to_string(bytes) + " bytes");
  const Mapping seen(file.number, bytes);
  if (!seen) throw Error("shared memory " + name + ": " + why());
  std::uint64_t magic = 0;
  load(&magic, seen.data(), sizeof magic);
  if (std::memcmp(&magic, kSharedMagic, sizeof magic) != 0)
    refuse(name, "keystep's arrays", "something else");
  const auto& header = *reinterpret_cast<const SharedHeader*>(seen.data());
  if (header.version != kSharedVersion) {
    refuse(name, "version " + std::to_string(kSharedVersion), std::to_string(header.version));
  }
  const std::size_t table = sizeof header + header.fields * sizeof(SharedEntry);
  if (header.fields == 0 || header.fields > kMaxSharedFields || table > bytes) {
    refuse(name, "1..64 fields", std::to_string(header.fields));
  }
  std::vector<SharedEntry> entries(header.fields);
  std::memcpy(entries.data(), seen.data() + sizeof header, header.fields * sizeof(SharedEntry));
  std::vector<SharedField> fields = fields_of(name, entries);
  const SharedLayout layout(fields);
  const bool agrees = layout.bytes == bytes && header.bytes == bytes &&
                      header.slot_bytes == layout.slot_bytes &&
                      std::memcmp(entries.data(), layout.entries.data(), table - sizeof header) == 0;
  if (!agrees) refuse(name, std::to_string(layout.bytes) + " bytes for its fields", std::to_string(bytes));
  return std::unique_ptr<SharedArrays>(
      new SharedArrays(std::make_unique<Impl>(name, std::move(fields), std::move(file))));
}

void SharedArrays::remove(const std::string& name) {
  if (shm_unlink(path_of(name).c_str()) != 0) throw Error("shared memory " + name + ": " + why());
}

void SharedArrays::remove() noexcept {
  try {
    const std::string path = path_of(impl_->name);
    const File named(shm_open(path.c_str(), O_RDONLY | O_CLOEXEC, 0));
    struct stat ours{}, theirs{};
    const bool same = named.number >= 0 && fstat(impl_->file.number, &ours) == 0 &&
                      fstat(named.number, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
                      ours.st_dev == theirs.st_dev;
    if (same) shm_unlink(path.c_str());
  } catch (...) {
    // out of memory: the name stays
  }
}

/// A reader that looks whether there is a writer holds the lock for a moment.
bool SharedArrays::claim() noexcept {
  Impl& self = *impl_;
  constexpr int kTries = 20;
  for (int i = 0; i < kTries && !self.writes; ++i) {
    self.writes = flock(self.file.number, LOCK_EX | LOCK_NB) == 0;
    if (!self.writes) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return self.writes;
}

bool SharedArrays::has_writer() const noexcept {
  const Impl& self = *impl_;
  if (self.writes) return true;  // to ask would be to give it up
  if (flock(self.file.number, LOCK_SH | LOCK_NB) != 0) return true;
  flock(self.file.number, LOCK_UN);
  return false;
}

SharedArrays::SharedArrays(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SharedArrays::~SharedArrays() = default;
const std::string& SharedArrays::name() const noexcept { return impl_->name; }
const std::vector<SharedField>& SharedArrays::fields() const noexcept { return impl_->fields; }
std::uint64_t SharedArrays::count() const noexcept { return impl_->count().load(std::memory_order_acquire); }
std::uint64_t SharedArrays::read_count() const noexcept { return impl_->seen; }
const RecordStamp& SharedArrays::stamp() const noexcept { return impl_->stamp; }
void SharedArrays::end() noexcept { Word(impl_->header().ended).store(1, std::memory_order_release); }
bool SharedArrays::ended() const noexcept {
  return Word(impl_->header().ended).load(std::memory_order_acquire) != 0;
}

const void* SharedArrays::array(std::size_t i) const noexcept {
  return reinterpret_cast<const std::byte*>(impl_->snapshot.data()) + impl_->layout.entries[i].offset;
}

bool SharedArrays::write(std::span<const void* const> arrays, const RecordStamp& stamp) noexcept {
  const Impl& self = *impl_;
  if (ended() || !(self.writes || claim())) return false;
  const std::uint64_t record = self.count().load(std::memory_order_relaxed) + 1;
  std::byte* const slot = self.slot(record);
  const SlotHead head{
      stamp.timestamp_us, stamp.now_us, static_cast<std::int64_t>(stamp.status), now_us(), {}};
  store(slot, &head, sizeof head);
  for (std::size_t i = 0; i < arrays.size() && i < self.layout.entries.size(); ++i) {
    store(slot + self.layout.entries[i].offset, arrays[i], self.layout.entries[i].bytes);
  }
  self.count().store(record, std::memory_order_release);
  return true;
}

/// A record is whole if the one after the next was not begun meanwhile, which is what overwrites it.
bool SharedArrays::read() noexcept {
  Impl& self = *impl_;
  constexpr int kTries = 16;
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t record = count();
    if (record == self.seen) return false;
    load(self.attempt.data(), self.slot(record), self.layout.slot_bytes);
    if (count() != record) continue;
    SlotHead head;
    std::memcpy(&head, self.attempt.data(), sizeof head);
    const bool known = head.status >= 0 && head.status < kStatuses;
    self.stamp = {head.timestamp_us, head.now_us,
                  known ? static_cast<Status>(head.status) : Status::engine_failure, head.written_us};
    self.snapshot.swap(self.attempt);
    self.seen = record;
    return true;
  }
  return false;
}

}  // namespace keystep
