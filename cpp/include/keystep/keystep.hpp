// keystep: compiled hierarchical robot policies in real time. See README.md and docs/.
#pragma once

#include "keystep/async.hpp"
#include "keystep/bundle.hpp"
#include "keystep/chunk_buffer.hpp"
#include "keystep/continuation.hpp"
#include "keystep/engine.hpp"
#include "keystep/episode.hpp"
#include "keystep/latency.hpp"
#include "keystep/noise.hpp"
#include "keystep/observation.hpp"
#include "keystep/runtime.hpp"
#include "keystep/safety_gate.hpp"
#include "keystep/sampler.hpp"
#include "keystep/status.hpp"
#include "keystep/trace.hpp"
#include "keystep/virtual_time.hpp"
