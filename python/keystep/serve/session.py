"""One client's episode: its requests to chunks, without any network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import keystep
from keystep.client.actions import Gate
from keystep.serve.request import Request


class Session:
    """An episode of its own on shared weights. One thread at a time.

    Args:
        runtime: a session of the policy, which is closed with this one.
    """

    def __init__(self, runtime: keystep.Runtime) -> None:
        self._runtime = runtime
        manifest = runtime.manifest
        self._frames = max(feature["history"] for feature in manifest["observation"])
        self._execute = manifest["chunk"]["execute"]
        tasks = manifest["tasks"][::-1]  # of several that are told by one text the runtime takes the first
        self._names = {told: task["name"] for task in tasks for told in (task["instruction"], task["name"])}
        self._takes_text = manifest["planner"] is not None
        self._gate = Gate(manifest["action"])
        self._begun = self._has_subgoals = False
        self._prompt: str | None = None
        self._key = (0, 0)  # seed and episode
        self._consumed = 0  # as the server takes it of a client that does not count

    def answer(self, message: Any) -> dict[str, Any]:
        """The reply to one message.

        Raises:
            keystep.Error: one line for the client; the episode goes on.
        """
        request = Request.read(message, self._frames)
        if request.reset is not None:
            self._reset(request.reset)
            if not request.observation:
                return {"reset": True}
        self._follow(request.prompt)
        if request.replan:
            self._runtime.replan()
        began = time.perf_counter()
        reply = self._chunk(request)
        reply["server_timing"] = {"infer_ms": (time.perf_counter() - began) * 1e3}
        return reply

    def interrupt(self) -> None:
        """Any thread: what is being made is given up."""
        self._runtime.interrupt()

    def close(self) -> None:
        self._runtime.close()

    def _chunk(self, request: Request) -> dict[str, Any]:
        consumed = self._consumed if request.consumed is None else request.consumed
        frames = [*request.history, request.observation]
        if self._prompt in self._names:
            frames[-1] = request.observation | {"task": self._prompt}
        served = self._runtime.serve_chunk(
            frames,
            consumed=consumed,
            ahead=request.ahead,
            previous=request.previous,
            continues=request.goal,
            rule=request.rule,
        )
        rows = served.rows
        if request.consumed is None:
            rows = self._gated(rows)
            consumed, self._consumed = self._consumed, consumed + self._execute
        else:
            self._consumed = consumed
        return {
            "actions": rows,
            "start": consumed,
            "goal": served.goal,
            "begins": served.begins,
            "until": served.until,
            "planned": served.planned,
        }

    def _gated(self, rows: np.ndarray) -> np.ndarray:
        """Bounds and rate limits as the loop would apply them: who does not count has no gate either."""
        gated = self._gate.apply_rows(rows)
        self._gate.held(gated[self._execute - 1])
        return gated

    def _reset(self, told: dict[str, Any]) -> None:
        self._runtime.reset(**told)
        self._key = (told.get("seed", 0), told.get("episode", 0))
        self._has_subgoals = "subgoals" in told
        self._start(told.get("task", told.get("instruction")))

    def _follow(self, prompt: str | None) -> None:
        """A prompt that is new begins an episode about it; the first message begins one anyway. Subgoals that
        were given say all: then no prompt does."""
        prompt = self._named(prompt)
        if self._begun and (prompt is None or prompt == self._prompt or self._has_subgoals):
            return
        seed, episode = self._key
        if self._begun and self._prompt is not None:
            episode += 1
        if prompt is None:
            self._runtime.reset(seed=seed, episode=episode)
        elif self._takes_text and prompt not in self._names:
            self._runtime.reset(instruction=prompt, seed=seed, episode=episode)
        elif self._names:
            self._runtime.reset(task=prompt, seed=seed, episode=episode)
        else:
            raise keystep.ArgumentError(
                f"prompt: expected none (the policy has no tasks), got {prompt[:60]!r}"
            )
        self._key = (seed, episode)
        self._start(prompt)

    def _named(self, prompt: str | None) -> str | None:
        """A task by its name, whichever of its two texts was said."""
        return None if prompt is None else self._names.get(prompt, prompt)

    def _start(self, prompt: str | None) -> None:
        self._begun, self._prompt, self._consumed = True, self._named(prompt), 0
        self._gate.reset()
