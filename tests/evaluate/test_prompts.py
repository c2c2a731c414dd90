"""What a policy that reads text is told where every episode has a prompt of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop
from fake_env import FakeHierarchy
from fake_tabletop import ENV_ID, FakeTabletop, prompt
from stub_bundle import state_entry

import keystep
from keystep.evaluate.rollout import Worker
from keystep.evaluate.settings import Evaluation
from keystep.suites.tabletop import layout

TASKS = ("Pick", "Swap")


class FakeReader(FakeHierarchy):
    """A subgoal policy of the tabletop suite's sizes."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.manifest |= {
            "tasks": [{"name": name, "instruction": f"{name}."} for name in TASKS],
            "observation": [state_entry(layout.STATE_NAMES)],
            "action": {"names": list(layout.ACTION_NAMES)},
            **changes,
        }

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        super().act(observation)
        return np.zeros(len(layout.ACTION_NAMES), np.float32)


def resets(policy: FakeReader, **settings: Any) -> list[dict[str, Any]]:
    """What the policy was told in two episodes of each task."""
    evaluation = Evaluation(ENV_ID, TASKS, 2, 40, **{"suite": "tabletop", **settings})
    worker = Worker(policy, evaluation)
    try:
        for job in evaluation.jobs:
            assert worker.run(job).steps == fake_tabletop.LENGTH
    finally:
        worker.close()
    return policy.resets


def test_it_is_told_the_prompt_of_each_episode() -> None:
    told = [(reset["task"], reset["instruction"]) for reset in resets(FakeReader())]
    assert told == [(None, prompt(task, seed)) for task in TASKS for seed in (40, 41)]
    assert len(set(told)) == 4


def test_the_probe_is_told_it_too() -> None:
    policy = FakeReader()
    worker = Worker(policy, Evaluation(ENV_ID, TASKS, 1, 42, suite="tabletop"))
    worker.probe(2)
    worker.close()
    assert policy.resets[0]["instruction"] == prompt("Pick", 42)


def test_chosen_instructions_go_before_it() -> None:
    texts = {task: (f"Do {task} now.",) for task in TASKS}
    told = {reset["instruction"] for reset in resets(FakeReader(), instructions=texts)}
    assert told == {"Do Pick now.", "Do Swap now."}


def test_a_policy_that_reads_no_text_is_told_the_task() -> None:
    told = resets(FakeReader(goal="none", family="flat"))
    assert [reset["task"] for reset in told] == ["Pick", "Pick", "Swap", "Swap"]
    assert not any("instruction" in reset for reset in told)


@pytest.mark.parametrize("said", [{}, {"instruction": None}, {"instruction": 3}])
def test_an_environment_without_prompts(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTabletop, "info", lambda self: {"success": False, **said})
    with pytest.raises(keystep.ArgumentError, match=r"info\['instruction'\]: expected the prompt of an ep"):
        resets(FakeReader())
