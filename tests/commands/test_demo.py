"""The demo's film of a policy without a planner, in a suite with an environment for each task."""

from __future__ import annotations

import functools
from itertools import islice
from pathlib import Path

import pytest
from stub_bundle import write_stub_bundle

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("tyro")

from fake_tabletop import ENV_ID, FakeTabletop
from tabletop_stub import tabletop_manifest

import keystep
from keystep.commands import demo
from keystep.suites import suite_named


def test_every_other_step_of_one_task_of_each_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_stub_bundle(tmp_path / "policy.keystep", **tabletop_manifest(["Pick", "Touch"]))
    monkeypatch.setattr(keystep, "load", functools.partial(keystep.load, engine="stub"))
    monkeypatch.setattr(type(suite_named("tabletop")), "env_id", ENV_ID)
    monkeypatch.setattr(demo, "VIDEO_SIZE", 16)
    resets, real = [], FakeTabletop.reset

    def noted(self, *, seed=None, options=None):
        resets.append((self.task, seed, options))
        return real(self, seed=seed, options=options)

    def step(self, action):
        found = list(real_step(self, action))
        return (*found[:3], self.steps >= 5, found[4])

    real_step = FakeTabletop.step
    monkeypatch.setattr(FakeTabletop, "reset", noted)
    monkeypatch.setattr(FakeTabletop, "step", step)
    FakeTabletop.opened.clear()
    frames = [int(frame[0, 0, 0]) // 20 for frame in islice(demo.film(bundle, 7, "tabletop"), 20)]
    assert frames == [0, 2, 4, 0, 2, 4]  # the steps taken when each was rendered
    assert resets == [("Pick", 7, None), ("Touch", 7, None)]
    assert set(FakeTabletop.opened.values()) == {0}
