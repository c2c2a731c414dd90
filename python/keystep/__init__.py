"""keystep: compiled hierarchical robot policies in real time.

    with keystep.load("policy.keystep") as policy:
        policy.reset(task="lift_red", seed=0)
        action = policy.act({"observation.state": state})

Importing this package needs numpy only; training, export and simulation live in sub-packages of their own.
"""

from keystep._core import (
    ArgumentError,
    BundleError,
    Error,
    PolicyError,
    ProviderError,
    SamplerSpec,
    __version__,
    noise,
    now_us,
)
from keystep.candidates import Candidates
from keystep.code_runtime import CodeBundle, CodeEvent, CodeFacts, CodeReply, CodeRuntime, CodeTelemetry
from keystep.continuation import merge_weights
from keystep.latency import LatencyReport, StageLatency
from keystep.lazy import lazy_names
from keystep.manifests import read_manifest
from keystep.opening import load
from keystep.run_report import RunReport, Spread, ThreadReport
from keystep.runtime import Runtime, TextWarning
from keystep.runtime_serving import ServedChunk
from keystep.sampler import Sampler
from keystep.shared_arrays import Record, SharedArrays, action_fields, observation_fields
from keystep.telemetry import Telemetry
from keystep.tracing import TraceReport, TraceWarning
from keystep.virtual_time import VirtualTime

__all__ = [
    "ArgumentError",
    "BundleError",
    "Candidates",
    "CodeBundle",
    "CodeEvent",
    "CodeFacts",
    "CodeReply",
    "CodeRuntime",
    "CodeTelemetry",
    "Error",
    "LatencyReport",
    "PolicyError",
    "ProviderError",
    "Record",
    "RunReport",
    "Runtime",
    "Sampler",
    "SamplerSpec",
    "ServedChunk",
    "SharedArrays",
    "Spread",
    "StageLatency",
    "Telemetry",
    "TextWarning",
    "ThreadReport",
    "TraceReport",
    "TraceWarning",
    "VirtualTime",
    "__version__",
    "action_fields",
    "load",
    "merge_weights",
    "noise",
    "now_us",
    "observation_fields",
    "read_manifest",
]

# For robots that ask a server; it needs msgpack, which nothing else here does.
__getattr__, __dir__ = lazy_names(
    __name__, {name: "keystep.client" for name in ("Client", "ConnectionLost", "ServerError")}
)
