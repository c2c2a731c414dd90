"""A compiled planner that writes code, asked once per control step. A thin shell around C++."""

from __future__ import annotations

from dataclasses import dataclass

from keystep.arguments import text
from keystep.loaded import Loaded
from keystep.manifests import inputs
from keystep.observations import Observation


@dataclass(frozen=True)
class CodeReply:
    """What the planner says at one control step.

    Attributes:
        text: as it was written; not asked: the last key-step commented out, "" before the first.
        key_step: a line of it is not commented out: a new call, which the planner remembers.
        asked: False for the steps between two questions (`every`), for which nothing is computed.
        tokens: written; of an early stop those that told.
        passes: runs of the decoder.
        ended: by its end, which is so of every reply.
    """

    text: str
    key_step: bool
    asked: bool
    tokens: int
    passes: int
    ended: bool


@dataclass(frozen=True)
class CodeEvent:
    """What happened at a control step, counted from `reset`.

    Attributes:
        kind: key_step; forgotten (a key-step has no room any more), refused (no room, and none may be
            forgotten), endless (a reply without an end), not_finite (NaN in the logits), failed (the engine).
        text: of a key-step, and of an endless reply, as it was written.
    """

    kind: str
    step: int
    text: str


@dataclass(frozen=True)
class CodeTelemetry:
    """What a session did since loading or `reset_latency`.

    Attributes:
        steps: control steps. replies: those that were asked and answered. key_steps: of the replies.
        tokens, passes: written, and runs of the decoder, for the replies.
        prepared: key-steps decoded while idle.
        forgotten, refused, endless, not_finite, failed: as of `CodeEvent`.
        events_lost: events that are no longer among `CodeRuntime.events`.
    """

    steps: int
    replies: int
    key_steps: int
    tokens: int
    passes: int
    prepared: int
    forgotten: int
    refused: int
    endless: int
    not_finite: int
    failed: int
    events_lost: int


@dataclass(frozen=True)
class CodeFacts:
    """What a planner sees and how it is asked: the manifest, with the options given to `keystep.load`.

    Attributes:
        sees: key of a picture or of objects. feels: key of the vector that is one token; None: there is none.
        grid: cells of a side of the picture, in code.
        context, reply_tokens: most tokens of a prompt with its reply, and of a reply.
        way: greedy, early_stop or draft. early_stop: L, characters. every: steps between two questions.
        constrained: replies are code of the API, nothing else.
    """

    sees: str
    feels: str | None
    grid: int
    context: int
    reply_tokens: int
    way: str
    early_stop: int
    every: int
    constrained: bool


@dataclass(frozen=True)
class CodeBundle:
    """What is loaded."""

    name: str
    family: str
    control_rate_hz: float
    code: CodeFacts


class CodeRuntime(Loaded):
    """A loaded planner that writes code. Made by `keystep.load`; close it, or use it as a context manager.

    One thread asks; `interrupt` may be called from any. The GIL is released while the planner computes; in
    the main thread Ctrl-C ends a computation, and the next `ask` begins it anew. After `close`, and in a
    child forked after loading, methods raise PolicyError "closed" and "forked", as those of `Runtime`.
    """

    def session(self) -> CodeRuntime:
        """Another session on the same weights: an episode with a memory and a cache of its own.

        Raises:
            PolicyError: closed.
        """
        return CodeRuntime(self._core.session())

    def reset(self, task: str) -> None:
        """Start an episode: nothing is remembered.

        Args:
            task: in words, one line.

        Raises:
            ArgumentError: no text, one that is no UTF-8 or longer than the context has room for. The episode
                before goes on.
        """
        self._core.reset(text("task", task))

    def ask(self, observation: Observation, *, request: bool = False) -> CodeReply:
        """One control step: what code runs now.

        Arrays must have exactly the dtype, shape and C order of the observation spec: nothing is converted.

        Args:
            request: ask for a key-step, whatever `every` says.

        Raises:
            ArgumentError: a key is missing or unknown; an array has the wrong dtype, shape or layout.
            PolicyError: there is no reply; `status` says why: "rejected_plan" (NaN in the logits, a reply
                without an end, no room for the key-steps where none may be forgotten), "bad_observation",
                "engine_failure", "interrupted", "not_reset". The memory is as it was, and the next `ask`
                tries again.
        """
        return CodeReply(*self._core.ask(observation, request))

    def prepare(self) -> None:
        """In idle time: decode the next key-step beforehand, from what was seen last.

        Once for each key-step, with `way="draft"` only. Replies are the same without it, key-steps slower.

        Raises:
            PolicyError: as `ask`. Nothing is prepared then.
        """
        self._core.prepare()

    def interrupt(self) -> None:
        """End an `ask` or `prepare` in flight, which raises PolicyError "interrupted". Any thread."""
        self._core.interrupt()

    def memory(self) -> tuple[str, ...]:
        """The key-steps of this episode, as they were written."""
        return self._core.memory()

    def code(self) -> str:
        """The call that runs: the last key-step; "" before the first."""
        return self._core.code()

    def info(self) -> str:
        """What a controller is told of the memory: the key-steps that store a pose, one after another.

        Source: From Code to Action, algorithm 1.
        """
        return self._core.info()

    def events(self) -> tuple[CodeEvent, ...]:
        """Key-steps, and what went wrong: the newest 128 of this episode, the oldest first."""
        return tuple(CodeEvent(*event) for event in self._core.events())

    @property
    def task(self) -> str:
        """What `reset` was told; "" before."""
        return self._core.task()

    def telemetry(self) -> CodeTelemetry:
        """Counts since loading or `reset_latency`."""
        return CodeTelemetry(**self._core.counts())

    @property
    def bundle(self) -> CodeBundle:
        """What is loaded, and how it is asked."""
        manifest, planner = self._manifest, self._manifest["planner"]
        keys = ("sees", "feels", "grid", "context", "reply_tokens")
        facts = CodeFacts(**{key: planner[key] for key in keys}, **self._core.decoding)
        return CodeBundle(manifest["name"], manifest["family"], manifest["control_rate_hz"], facts)

    def __repr__(self) -> str:
        """Bundle, way to answer, engine and inputs."""
        bundle = self.bundle
        lines = [
            f"keystep.CodeRuntime {bundle.name!r}",
            f"family {bundle.family}, {bundle.control_rate_hz:g} Hz, {bundle.code.way}",
            f"engine {self._engine_or_state()}",
            f"inputs {', '.join(inputs(self._manifest))}",
            "outputs code",
        ]
        return f"<{'; '.join(lines)}>"
