// Events to packets of Perfetto's trace format: no thread, no file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "loop/trace_proto.hpp"
#include "loop/trace_ring.hpp"

namespace keystep {

/// Packets of one sequence. Names are written once and then by their number. Times count from `start_ns`:
/// small numbers, of which no nanosecond is lost where a reader takes them for floating point.
class TraceEncoder {
 public:
  TraceEncoder(std::string process, std::int32_t process_id, std::int64_t start_ns);

  void track(std::uint32_t id, const std::string& name);
  void counter(std::uint32_t id, const std::string& name, const std::string& unit);
  void event(const TraceEvent& event);
  /// What comes next is the beginning of another file: the descriptors again, no name known, and the spans
  /// that are open begin anew.
  void restart();

  /// Whole packets, to be taken and emptied.
  std::string& packets() noexcept { return out_; }

 private:
  struct Descriptor {
    std::string name, unit;
    bool counts;
  };
  struct Numbers {  ///< of a label; 0: none
    std::uint64_t name = 0, argument = 0;
    bool fresh_name = false, fresh_argument = false;
  };

  void describe_process();
  void describe(std::uint32_t id, const Descriptor& descriptor);
  Numbers intern(const TraceLabel& label);
  void define(const TraceLabel& label, const Numbers& numbers);
  void remember(const TraceEvent& event);

  const std::string process_;
  const std::int32_t process_id_;
  const std::int64_t start_ns_;
  std::string out_;
  std::map<std::uint32_t, Descriptor> described_;
  std::unordered_map<std::string, std::uint64_t> event_names_, argument_names_;
  std::unordered_map<std::uint32_t, std::vector<TraceEvent>> open_;  // spans of each track
};

}  // namespace keystep
