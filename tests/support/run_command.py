"""`keystep run` with a planner of one's own, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from said import Said

from keystep import cli
from keystep.commands import run_episodes
from keystep.commands.code_planners import CodePlannerSource

TASK, SEED = "PlaceOnTop", 4


class Texts:
    """Writes texts one after the other, then the last one again; an exception in their place is raised."""

    grid = 32

    def __init__(self, *texts: str | BaseException, ended: bool = True) -> None:
        self.texts, self.ended, self.image_size = texts, ended, None

    def begin(self, task: str) -> None:
        self.asked = 0

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
        text = self.texts[min(self.asked, len(self.texts) - 1)]
        self.asked += 1
        if isinstance(text, BaseException):
            raise text
        return Said(text, 3, self.ended)

    def prepare(self) -> None:
        pass


Run = Callable[..., tuple[int, str, str]]


def player(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with a planner of one's own: status, stdout, stderr."""

    def play(planner: Any, *options: object, task: str = TASK) -> tuple[int, str, str]:
        source = CodePlannerSource("checkpoint", "writer", "0" * 64, lambda: planner)
        monkeypatch.setattr(run_episodes, "code_planner_at", lambda folder: source)
        arguments = ["run", "writer", "--task", task, "--seed", str(SEED), *map(str, options)]
        status = cli.run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return play
