"""`keystep.CodeRuntime` for tests: where this version has none, a slow reference with the same functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_writer import OnnxWriter

import keystep
from keystep.code.trace import Memory


@dataclass(frozen=True)
class FakeReply:
    text: str
    key_step: bool
    asked: bool
    tokens: int
    passes: int
    ended: bool


class FakeCodeRuntime:
    """Greedy, by ONNX Runtime from Python; strict about what it is given."""

    description = "onnxruntime"
    engine_choices: tuple[dict[str, str], ...] = ()

    def __init__(self, bundle: Path, every: int) -> None:
        assert every == 1
        self._writer, self._memory = OnnxWriter(bundle), Memory()
        self._observation = self._writer.graphs.manifest["observation"]
        self._task, self.prepared = "", 0

    def reset(self, task: str) -> None:
        if not task.isascii():
            raise keystep.ArgumentError(f"task: expected words that it knows, got {task!r}")
        self._task, self._memory = task, Memory()

    def ask(self, observation: dict[str, np.ndarray], request: bool = False) -> FakeReply:
        self._check(observation)
        prompt = self._writer.prompt(self._task, self._memory.instructions, request)
        ids, ended = self._writer.write(prompt, observation, "greedy", self._memory)
        if not ended:
            raise keystep.PolicyError("reply: expected its end within 48 tokens, got none")
        text = self._writer.tokenizer.decode(ids)
        return FakeReply(text, self._memory.update(text), True, len(ids) + 1, self._writer.passes, ended)

    def prepare(self) -> None:
        self.prepared += 1

    def memory(self) -> tuple[str, ...]:
        return tuple(self._memory.instructions)

    def __enter__(self) -> FakeCodeRuntime:
        return self

    def __exit__(self, *what: object) -> None:
        pass

    def _check(self, observation: dict[str, np.ndarray]) -> None:
        wanted = {one["key"]: (one["dtype"], tuple(one["shape"])) for one in self._observation}
        given = {key: (value.dtype.name, value.shape) for key, value in observation.items()}
        if wanted != given:
            raise keystep.ArgumentError(f"observation: expected {wanted}, got {given}")


def provide_code_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `keystep.load` opens bundles of family code, whatever this version of keystep has."""
    if hasattr(keystep, "CodeRuntime"):
        return

    def read_manifest(path: Path) -> Any:
        return json.loads((Path(path) / "manifest.json").read_text())

    def load(path: Path, every: int = 1, **options: Any) -> FakeCodeRuntime:
        return FakeCodeRuntime(Path(path), every)

    monkeypatch.setattr(keystep, "CodeRuntime", FakeCodeRuntime, raising=False)
    monkeypatch.setattr(keystep, "read_manifest", read_manifest)
    monkeypatch.setattr(keystep, "load", load)
