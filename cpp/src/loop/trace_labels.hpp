// What the loop calls its spans, beside the stages.
#pragma once

#include "keystep/latency.hpp"
#include "keystep/trace.hpp"

namespace keystep {

inline constexpr TraceLabel kStageLabels[kStages] = {
    {"observe", "observation"}, {"plan"},     {"score"}, {"encode"}, {"denoise"}, {"gate"},
    {"tick", "tick"},           {"interrupt"}};
inline const TraceLabel& label(Stage stage) noexcept { return kStageLabels[static_cast<int>(stage)]; }

inline constexpr TraceLabel kDenoiseStepLabel = {"denoise step", "step"};
inline constexpr TraceLabel kPlanEncodeLabel = {"plan encode"};
inline constexpr TraceLabel kPlanVisionLabel = {"plan vision"};
inline constexpr TraceLabel kDecodePassLabel = {"decode pass", "tokens"};
inline constexpr TraceLabel kPrepareLabel = {"plan prepare"};
inline constexpr TraceLabel kChunkLabel = {"chunk", "chunk"};
inline constexpr TraceLabel kActionLabel = {"action", "consumed"};
inline constexpr TraceLabel kInterruptLabel = {"interrupt to action", "waited_ns"};
inline constexpr TraceLabel kResetLabel = {"reset", "episode"};
inline constexpr TraceLabel kUnderrunLabel = {"underrun", "cause"};
inline constexpr TraceLabel kFailedLabel = {"tick failed", "status"};

}  // namespace keystep
