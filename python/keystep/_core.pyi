"""The C++ extension (python/bindings)."""

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__version__: str

Status = Literal[
    "not_reset",
    "closed",
    "forked",
    "busy",
    "bad_observation",
    "stale_observation",
    "interrupted",
    "rejected_plan",
    "rejected_chunk",
    "engine_failure",
]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# What keystep exports has its words here, too: those of the bindings, for editors and for the site.
class Error(RuntimeError):
    """Base of everything keystep raises."""

class BundleError(Error):
    """The bundle on disk is damaged, unsafe, newer, or disagrees with itself."""

class ProviderError(Error):
    """The inference engine or the provider asked for is not available."""

class ArgumentError(Error, ValueError):
    """An argument is outside what the policy or the function accepts."""

class PolicyError(Error):
    """A tick that was not ok; `status` says why, e.g. "not_reset" or "busy"."""

    status: Status

def expected(field: str, wanted: str, got: object) -> str: ...
def read_manifest(path: Path) -> str: ...
def manifest_text(folder: Path) -> bytes: ...
def read_files(folder: Path) -> dict[str, bytes]: ...
def check_manifest(manifest: str) -> None: ...
def sha256_file(file: Path) -> str: ...
def noise(
    shape: tuple[int, ...] | list[int], seed: int, episode: int = 0, chunk: int = 0, step: int = 0
) -> NDArray[np.float32]:
    """Standard normals, float32, of the counter-based generator (Philox 4x32-10, Salmon et al., SC 2011).

    The runtime draws the initial sample of the n-th chunk of an episode with chunk=n, step=0 and the
    noise of denoise step k with step=k+1; plans with chunk=0x80000000 | n (n below 2**31).

    Raises ArgumentError: seed and chunk in 0..2**64-1, episode and step in 0..2**32-1, shape of at most
    32 axes and 2**28 values.
    """

def now_us() -> int:
    """Microseconds of the steady clock that `timestamp_us` is compared with."""

class SamplerSpec:
    """All the settings of a sampler; the manifest's "sampler" object has exactly these keys. Raises TypeError
    for another key, ArgumentError for a value of another type."""

    kind: str
    train_steps: int
    inference_steps: int
    beta_schedule: str
    beta_start: float
    beta_end: float
    betas: list[float]
    prediction: str
    clip_sample: bool
    clip_range: float
    timestep_rule: str
    steps_offset: int
    set_alpha_to_one: bool
    eta: float
    guidance: float
    noise: str
    def __init__(
        self,
        *,
        kind: str = "ddim",
        train_steps: int = 100,
        inference_steps: int = 10,
        beta_schedule: str = "squaredcos_cap_v2",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        betas: list[float] = ...,
        prediction: str = "epsilon",
        clip_sample: bool = True,
        clip_range: float = 1.0,
        timestep_rule: str = "leading",
        steps_offset: int = 0,
        set_alpha_to_one: bool = True,
        eta: float = 0.0,
        guidance: float = 0.0,
        noise: str = "philox4x32-10",
    ) -> None: ...
    def validate(self) -> None: ...
    def as_dict(self) -> dict[str, Any]: ...

SamplerBounds = tuple[float, float, bool]

def sampler_fields() -> list[tuple[str, list[str], SamplerBounds, Any]]:
    """Of SamplerSpec, in order: name, choices, (low, high, whether the ends are excluded), default."""

def sampler_kinds() -> dict[str, tuple[bool, list[str], list[str]]]:
    """By kind: whether it is a flow, its predictions, its rules of time-steps."""

def merge_weights(horizon: int, delay: int, overlap: int, rows: int, decay: str) -> NDArray[np.float32]: ...

class Sampler:
    def __init__(self, spec: SamplerSpec) -> None: ...
    @property
    def spec(self) -> SamplerSpec: ...
    @property
    def timesteps(self) -> list[int]: ...
    @property
    def alphas_cumprod(self) -> list[float]: ...
    def needs_noise(self, index: int) -> bool: ...
    def step(
        self,
        index: int,
        model_output: NDArray[np.float32],
        sample: NDArray[np.float32],
        noise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]: ...
    def merge(
        self,
        index: int,
        weights: NDArray[np.float32],
        known: NDArray[np.float32],
        before: NDArray[np.float32],
        sample: NDArray[np.float32],
        noise: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]: ...
    def guide(
        self, conditional: NDArray[np.float32], unconditional: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...

class EngineOptions:
    engine: str
    provider: str
    threads: int
    optimization: str
    onnxruntime_library: Path
    extensions_library: Path
    provider_options: dict[str, str]
    precision: str
    isa: str
    pin_threads: bool
    spin_us: int

class AsyncOptions:
    underrun: str
    merge: str
    request_below: int
    blend_actions: int
    ensemble_decay: float | None
    plan_ahead: int | None
    merge_decay: str
    merge_overlap: int | None
    watchdog_us: int

class Tracer:
    def __init__(self, file: Path) -> None: ...
    def report(self) -> dict[str, Any]: ...

class RuntimeOptions:
    engine: EngineOptions
    asynchronous: AsyncOptions
    mode: str
    inference_steps: int
    sampler: str
    planner_steps: int
    planner_sampler: str
    planner_candidates: int
    planner_score: str
    replan: bool | None
    strict_text: bool
    deadline_us: float
    max_observation_age_us: int
    clock: str
    tracer: Tracer | None
    def in_virtual_time(self, chunk: list[float], plan: list[float], skips: bool) -> None: ...

class CodeOptions:
    engine: EngineOptions
    way: str | None
    early_stop: int | None
    every: int | None
    constrained: bool | None
    deadline_us: float
    tracer: Tracer | None

class CodeRuntime:
    def __init__(self, path: Path, options: CodeOptions) -> None: ...
    def check_usable(self) -> None: ...
    def session(self) -> CodeRuntime: ...
    def reset(self, task: str) -> None: ...
    def ask(self, observation: dict[str, Any], request: bool) -> tuple[str, bool, bool, int, int, bool]: ...
    def prepare(self) -> None: ...
    def interrupt(self) -> None: ...
    def task(self) -> str: ...
    def memory(self) -> tuple[str, ...]: ...
    def code(self) -> str: ...
    def info(self) -> str: ...
    def events(self) -> list[tuple[str, int, str]]: ...
    def counts(self) -> dict[str, int]: ...
    def latency(self) -> dict[str, Any]: ...
    def reset_latency(self) -> None: ...
    def close(self) -> None: ...
    @property
    def decoding(self) -> dict[str, Any]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def manifest_json(self) -> str: ...
    @property
    def engine_choices(self) -> list[dict[str, str]]: ...
    @property
    def tracer(self) -> Tracer | None: ...
    @property
    def engine_description(self) -> str: ...

class Runtime:
    def __init__(self, path: Path, options: RuntimeOptions) -> None: ...
    def reset(
        self,
        task: str,
        instruction: str,
        goal: dict[str, Any] | None,
        seed: int,
        episode: int,
        guidance: float | None,
        subgoals: dict[str, Any] | None,
    ) -> None: ...
    def check_usable(self) -> None: ...
    def session(self) -> Runtime: ...
    def find_task(self, task: str) -> str: ...
    def about(self) -> str: ...
    def is_about(self, told: object) -> bool: ...
    def text_warning(self, instruction: str) -> str: ...
    def act(self, observation: dict[str, Any]) -> NDArray[np.float32]: ...
    def predict_chunk(
        self,
        observation: dict[str, Any],
        noise: NDArray[np.float32] | None,
        previous: NDArray[np.float32] | None,
        delay: int,
        overlap: int,
        rule: str,
        decay: str,
    ) -> NDArray[np.float32]: ...
    def serve_chunk(
        self,
        frames: list[dict[str, Any]],
        consumed: int,
        ahead: int,
        continues: int,
        previous: NDArray[np.float32] | None,
        delay: int,
        overlap: int,
        rule: str,
        decay: str,
    ) -> tuple[NDArray[np.float32], int, int, int | None, bool]: ...
    def predict_plan(
        self, observation: dict[str, Any], noise: NDArray[np.float32] | None
    ) -> NDArray[np.float32]: ...
    def predict_candidates(
        self, observation: dict[str, Any], noise: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], int]: ...
    def plan(self) -> NDArray[np.float32] | None: ...
    def candidates(self) -> tuple[NDArray[np.float32], NDArray[np.float32], int] | None: ...
    def plan_progress(self) -> dict[str, int]: ...
    def replan(self) -> None: ...
    def interrupt(self) -> None: ...
    def latency(self) -> dict[str, Any]: ...
    def reset_latency(self) -> None: ...
    def telemetry(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    @property
    def mode(self) -> str: ...
    @property
    def virtual_time(self) -> bool: ...
    @property
    def needs_task(self) -> bool: ...
    @property
    def manifest_json(self) -> str: ...
    @property
    def engine_description(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def tracer(self) -> Tracer | None: ...
    @property
    def engine_choices(self) -> list[dict[str, str]]: ...

class SharedArrays:
    @staticmethod
    def create(name: str, fields: list[tuple[str, str, tuple[int, ...]]]) -> SharedArrays: ...
    @staticmethod
    def open(name: str) -> SharedArrays: ...
    @staticmethod
    def remove(name: str) -> None: ...
    def remove_own(self) -> None: ...
    def write(self, arrays: list[Any], timestamp_us: int, now_us: int) -> None: ...
    def newest(self) -> tuple[list[NDArray[Any]], int, int, str, int] | None: ...
    def end(self) -> None: ...
    @property
    def fields(self) -> list[tuple[str, str, tuple[int, ...]]]: ...
    @property
    def name(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def read_count(self) -> int: ...
    @property
    def ended(self) -> bool: ...
    @property
    def has_writer(self) -> bool: ...

class FixedRate:
    def __init__(
        self,
        runtime: Runtime,
        rate_hz: float,
        periods: int,
        fifo_priority: int,
        cores: Sequence[int],
        lock_memory: bool,
        prefault_stack: int,
    ) -> None: ...
    def run(self, source: object, sink: object) -> None: ...
    def stop(self) -> None: ...
    def report(self) -> dict[str, Any]: ...

def is_keystep(reply: str | bytes) -> bool: ...
def stores_pose(code: str | bytes) -> bool: ...
def comment(code: str | bytes) -> bytes: ...
def goes_on(reply: str | bytes, commented: str | bytes, characters: int) -> bool: ...
def as_utf8(text: bytes) -> str: ...

class CodeText:
    def __init__(
        self, words: str, prompt: str, image_tokens: int, keysteps: int, forgets: bool, capacity: int
    ) -> None: ...
    def encode(self, text: str | bytes) -> list[int]: ...
    def decode(self, ids: list[int]) -> bytes: ...
    def prompt(
        self, task: str, question: str, request: bool, image: bool, proprioception: bool, room: int
    ) -> list[int] | None: ...
    def remember(self, code: str | bytes) -> bool: ...
    def forget(self) -> None: ...
    def instructions(self) -> list[bytes]: ...
    def info(self) -> bytes: ...
    @property
    def forgotten(self) -> int: ...
    @property
    def shown(self) -> int: ...

class ConstrainedReply:
    def __init__(self, words: str, api: str, grid: int) -> None: ...
    def restart(self) -> None: ...
    def allowed(self, left: int) -> list[int]: ...
    def advance(self, token: int) -> bool: ...
    @property
    def complete(self) -> bool: ...
    @property
    def shortest(self) -> int: ...
    @property
    def nodes(self) -> int: ...
