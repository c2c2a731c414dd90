#include "loop/trace_encoder.hpp"

#include <algorithm>
#include <utility>

namespace keystep {
namespace {

// Field numbers of perfetto_trace.proto.
namespace trace {
constexpr int kPacket = 1;
}
namespace packet {
constexpr int kTimestamp = 8, kSequence = 10, kTrackEvent = 11, kInterned = 12, kFlags = 13, kDescriptor = 60;
}
namespace track_event {
constexpr int kAnnotation = 4, kType = 9, kName = 10, kTrack = 11, kCounterValue = 30, kFlow = 47;
}
namespace annotation {
constexpr int kName = 1, kInteger = 4;
}
namespace interned {
constexpr int kEventNames = 2, kAnnotationNames = 3;  // each {iid 1, name 2}
}
namespace descriptor {
constexpr int kUuid = 1, kName = 2, kProcess = 3, kParent = 5, kCounter = 8;
}
namespace process {
constexpr int kPid = 1, kName = 6;
}
constexpr int kUnitName = 6;  // of a counter's descriptor

constexpr std::uint64_t kOneSequence = 1, kProcessUuid = 1;
constexpr std::uint64_t kStateCleared = 1, kNeedsState = 2;  // flags of a packet
constexpr std::uint64_t kSliceBegin = 1, kSliceEnd = 2, kInstant = 3, kCounter = 4;

std::uint64_t type_of(TraceKind kind) noexcept {
  switch (kind) {
    case TraceKind::begin:
      return kSliceBegin;
    case TraceKind::end:
      return kSliceEnd;
    case TraceKind::instant:
      return kInstant;
    case TraceKind::count:
      return kCounter;
  }
  return 0;
}

}  // namespace

TraceEncoder::TraceEncoder(std::string process, std::int32_t process_id, std::int64_t start_ns)
    : process_(std::move(process)), process_id_(process_id), start_ns_(start_ns) {
  describe_process();
}

void TraceEncoder::describe_process() {
  ProtoWriter out(out_);
  out.message(trace::kPacket, [&] {
    out.varint(packet::kSequence, kOneSequence);
    out.varint(packet::kFlags, kStateCleared);
    out.message(packet::kDescriptor, [&] {
      out.varint(descriptor::kUuid, kProcessUuid);
      out.message(descriptor::kProcess, [&] {
        out.integer(process::kPid, process_id_);
        out.bytes(process::kName, process_);
      });
    });
  });
}

void TraceEncoder::track(std::uint32_t id, const std::string& name) {
  describe(id, described_[id] = {name, "", false});
}

void TraceEncoder::counter(std::uint32_t id, const std::string& name, const std::string& unit) {
  describe(id, described_[id] = {name, unit, true});
}

void TraceEncoder::describe(std::uint32_t id, const Descriptor& described) {
  ProtoWriter out(out_);
  out.message(trace::kPacket, [&] {
    out.varint(packet::kSequence, kOneSequence);
    out.message(packet::kDescriptor, [&] {
      out.varint(descriptor::kUuid, id);
      out.bytes(descriptor::kName, described.name);
      out.varint(descriptor::kParent, kProcessUuid);
      if (described.counts) {
        out.message(descriptor::kCounter, [&] { out.bytes(kUnitName, described.unit); });
      }
    });
  });
}

void TraceEncoder::restart() {
  event_names_.clear();
  argument_names_.clear();
  describe_process();
  for (const auto& [id, described] : described_) describe(id, described);
  const auto open = std::exchange(open_, {});
  for (const auto& [id, spans] : open) {
    for (const TraceEvent& span : spans) event(span);
  }
}

/// The numbers of a label's names; which of them are new is told by `names`.
TraceEncoder::Numbers TraceEncoder::intern(const TraceLabel& label) {
  const auto number = [](auto& known, const char* name) -> std::pair<std::uint64_t, bool> {
    const auto [found, fresh] = known.try_emplace(name, known.size() + 1);
    return {found->second, fresh};
  };
  Numbers numbers;
  std::tie(numbers.name, numbers.fresh_name) = number(event_names_, label.name);
  if (label.argument != nullptr) {
    std::tie(numbers.argument, numbers.fresh_argument) = number(argument_names_, label.argument);
  }
  return numbers;
}

void TraceEncoder::define(const TraceLabel& label, const Numbers& numbers) {
  if (!numbers.fresh_name && !numbers.fresh_argument) return;
  ProtoWriter out(out_);
  const auto entry = [&](int field, std::uint64_t number, const char* name) {
    out.message(field, [&] {
      out.varint(1, number);
      out.bytes(2, name);
    });
  };
  out.message(packet::kInterned, [&] {
    if (numbers.fresh_name) entry(interned::kEventNames, numbers.name, label.name);
    if (numbers.fresh_argument) entry(interned::kAnnotationNames, numbers.argument, label.argument);
  });
}

void TraceEncoder::event(const TraceEvent& event) {
  const Numbers numbers = event.label != nullptr ? intern(*event.label) : Numbers{};
  ProtoWriter out(out_);
  out.message(trace::kPacket, [&] {
    out.integer(packet::kTimestamp, std::max<std::int64_t>(event.time_ns - start_ns_, 0));
    out.varint(packet::kSequence, kOneSequence);
    out.message(packet::kTrackEvent, [&] {
      if (numbers.argument != 0) {
        out.message(track_event::kAnnotation, [&] {
          out.varint(annotation::kName, numbers.argument);
          out.integer(annotation::kInteger, event.value);
        });
      }
      out.varint(track_event::kType, type_of(event.kind));
      if (numbers.name != 0) out.varint(track_event::kName, numbers.name);
      out.varint(track_event::kTrack, event.track);
      if (event.kind == TraceKind::count) out.integer(track_event::kCounterValue, event.value);
      if (event.flow != 0) out.fixed64(track_event::kFlow, event.flow);
    });
    define(event.label != nullptr ? *event.label : TraceLabel{}, numbers);
    out.varint(packet::kFlags, kNeedsState);
  });
  remember(event);
}

/// Which spans are open: a new file begins with them.
void TraceEncoder::remember(const TraceEvent& event) {
  if (event.kind == TraceKind::begin) open_[event.track].push_back(event);
  if (event.kind == TraceKind::end && !open_[event.track].empty()) open_[event.track].pop_back();
}

}  // namespace keystep
