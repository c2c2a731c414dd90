// The wire format of protocol buffers, as much of it as a trace needs:
// https://protobuf.dev/programming-guides/encoding
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace keystep {

/// Appends fields to `out`. Fields in ascending order of their numbers give the bytes of protobuf's own
/// encoder.
class ProtoWriter {
 public:
  explicit ProtoWriter(std::string& out) : out_(out) {}

  void varint(int field, std::uint64_t value) {
    tag(field, 0);
    raw(out_.size(), value);
  }
  /// An int64 or int32: a negative one has ten bytes.
  void integer(int field, std::int64_t value) { varint(field, static_cast<std::uint64_t>(value)); }
  void fixed64(int field, std::uint64_t value) {
    tag(field, 1);
    for (int i = 0; i < 8; ++i) out_.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
  void bytes(int field, std::string_view value) {
    tag(field, 2);
    raw(out_.size(), value.size());
    out_.append(value);
  }
  /// `fill()` appends the fields of the message to the same string.
  template <class Fill>
  void message(int field, const Fill& fill) {
    tag(field, 2);
    const std::size_t begin = out_.size();
    fill();
    raw(begin, out_.size() - begin);
  }

 private:
  void tag(int field, std::uint64_t wire_type) {
    raw(out_.size(), static_cast<std::uint64_t>(field) << 3 | wire_type);
  }
  /// A varint, inserted at `place`.
  void raw(std::size_t place, std::uint64_t value) {
    char digits[10];
    std::size_t count = 0;
    for (; value >= 0x80; value >>= 7) digits[count++] = static_cast<char>((value & 0x7f) | 0x80);
    digits[count++] = static_cast<char>(value);
    out_.insert(place, digits, count);
  }

  std::string& out_;
};

}  // namespace keystep
