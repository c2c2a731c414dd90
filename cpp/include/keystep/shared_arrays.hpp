// Arrays in shared memory: one process writes records, others read the newest one whole. What a robot's
// process and a policy's exchange. The layout is in docs/real_time.md.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "keystep/fixed_rate.hpp"

namespace keystep {

struct SharedField {
  std::string name;  ///< 1..79 bytes
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;  ///< 1..3 axes, all positive
  bool operator==(const SharedField&) const = default;
};
/// One per entry of `Bundle::observation`, in its order.
std::vector<SharedField> observation_fields(const Bundle& bundle);
/// "action", float32 {A}.
std::vector<SharedField> action_fields(const Bundle& bundle);

/// When what is in a record was taken, as in `Observation`; and of an action the tick's status.
struct RecordStamp {
  std::int64_t timestamp_us = -1, now_us = -1;
  Status status = Status::ok;
  std::int64_t written_us = -1;  ///< by keystep::now_us(); set by `write`
};

/// Memory in /dev/shm under a name. Neither side waits for the other: a writer that dies leaves the last
/// whole record, and is known to be gone. One thread at a time per object; one writer at a time per name.
class SharedArrays {
 public:
  /// Of the writer or the reader, whoever is there first. Throws ArgumentError (name, fields), Error (the
  /// name is in use, no memory).
  static std::unique_ptr<SharedArrays> create(const std::string& name, std::vector<SharedField> fields);
  /// Throws Error: nothing (whole) of that name, another version, sizes that do not agree.
  static std::unique_ptr<SharedArrays> open(const std::string& name);
  /// Removes the name; who has it open goes on. Throws Error.
  static void remove(const std::string& name);
  /// Removes the name if it still is that of this memory.
  void remove() noexcept;
  ~SharedArrays();
  SharedArrays(const SharedArrays&) = delete;
  SharedArrays& operator=(const SharedArrays&) = delete;

  const std::string& name() const noexcept;
  const std::vector<SharedField>& fields() const noexcept;
  std::uint64_t count() const noexcept;  ///< records written so far
  /// This object is the writer from here on, until it is destroyed or its process ends, however it ends.
  /// False: another one is. The first `write` does it, too.
  bool claim() noexcept;
  /// Somebody is.
  bool has_writer() const noexcept;
  /// One array per field, of its size. False, and nothing is written: there is another writer, or it ended.
  bool write(std::span<const void* const> arrays, const RecordStamp& stamp) noexcept;
  /// Nothing more will be written. Readers see it.
  void end() noexcept;
  bool ended() const noexcept;

  /// Takes the newest record, if there is a newer one than before. False: there is none, or the writer was
  /// faster than every one of a few tries; what was read before stays.
  bool read() noexcept;
  std::uint64_t read_count() const noexcept;        ///< number of the record that was read; 0: none yet
  const void* array(std::size_t i) const noexcept;  ///< of field i, as read
  const RecordStamp& stamp() const noexcept;        ///< likewise

 private:
  struct Impl;
  explicit SharedArrays(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The newest observation, again if there is no newer one: its stamp tells how old it is. Before the first
/// one not ok (not_reset); after `end` closed. Throws Error once the writer is gone, ArgumentError where the
/// fields are not `observation_fields`.
Source shared_source(SharedArrays& arrays, const Bundle& bundle);
/// Throws Error where there is another writer, ArgumentError where the fields are not `action_fields`.
Sink shared_sink(SharedArrays& arrays, const Bundle& bundle);

}  // namespace keystep
