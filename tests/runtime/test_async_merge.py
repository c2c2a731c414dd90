"""Chunks that merge inside the sampler, in the asynchronous mode, with real networks and threads."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from keystep.export.bundle import export_bundle
from keystep.models import ACT_PRESETS, PRESETS, random_checkpoint

CASES: dict[str, Any] = {
    "plain": PRESETS["tiny"],
    "trained": replace(PRESETS["tiny"], max_delay=1),
    "act": replace(ACT_PRESETS["act-tiny"], goal="none"),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("merge")
    for name, config in CASES.items():
        random_checkpoint(folder / name, config)
    return {name: export_bundle(folder / name, folder / f"{name}.keystep") for name in CASES}


def seen_by(policy: keystep.Runtime) -> dict[str, np.ndarray]:
    return {
        feature["key"]: np.full(feature["shape"], 0.25, feature["dtype"])
        for feature in policy.manifest["observation"]
    }


def run(
    policy: keystep.Runtime, enough: Any, wait_s: float = 0.0005, limit: int = 20_000
) -> keystep.Telemetry:
    policy.reset(seed=1)
    observation = seen_by(policy)
    for _ in range(limit):
        assert np.isfinite(policy.act(observation)).all()
        if enough(policy.telemetry()):
            return policy.telemetry()
        time.sleep(wait_s)
    raise AssertionError(policy.telemetry())


@pytest.mark.parametrize(
    ("case", "merge", "continues"),
    [
        ("plain", "", True),
        ("plain", "x0blend", True),
        ("plain", "replace", False),
        ("trained", "", True),
        ("trained", "trained", True),
        ("trained", "x0blend", True),
        ("act", "", False),
    ],
)
def test_chunks_continue_the_one_before(
    bundles: dict[str, Path], case: str, merge: str, continues: bool
) -> None:
    with keystep.load(bundles[case], mode="async", merge=merge) as policy:
        seen = run(policy, lambda seen: seen.chunks > 10 and (seen.chunks_continued > 5 or not continues))
        assert (seen.chunks_continued > 0) == continues and seen.chunks_failed == 0
        assert seen.chunks_continued < seen.chunks  # the first has nothing to continue
        if (case, merge) not in {("trained", ""), ("trained", "trained")}:
            assert seen.chunks_beyond_max_delay == 0
        assert f"{seen.chunks_continued} continued" in str(seen)


@pytest.mark.parametrize("merge", ["", "trained"])
def test_a_delay_that_was_not_trained_is_told(bundles: dict[str, Path], merge: str) -> None:
    """Ticks that come faster than chunks: more is consumed meanwhile than the network was trained for."""
    with keystep.load(bundles["trained"], mode="async", merge=merge) as policy:
        seen = run(policy, lambda seen: seen.chunks_beyond_max_delay > 2, wait_s=0.0001)
        assert seen.chunks_beyond_max_delay <= seen.chunks_continued and seen.chunks_failed == 0


@pytest.mark.parametrize(
    ("case", "merge", "message"),
    [
        (
            "plain",
            "trained",
            r"merge: expected x0blend \| .* \(the controller was not trained with --rtc\), ",
        ),
        (
            "act",
            "trained",
            r"merge: expected blend \| .* \(the controller is one graph, act\), got 'trained'",
        ),
        (
            "act",
            "x0blend",
            r"merge: expected blend \| .* \(the controller is one graph, act\), got 'x0blend'",
        ),
    ],
)
def test_what_a_bundle_cannot_do_is_refused(
    bundles: dict[str, Path], case: str, merge: str, message: str
) -> None:
    with pytest.raises(keystep.ArgumentError, match=message):
        keystep.load(bundles[case], mode="async", merge=merge)


def test_lockstep_continues_nothing(bundles: dict[str, Path]) -> None:
    """The rows of chunks of their own, to the bit, also of a bundle that is trained to continue."""
    with keystep.load(bundles["trained"]) as policy:
        observation, execute = seen_by(policy), policy.manifest["chunk"]["execute"]
        policy.reset(seed=3)
        given = np.stack([policy.act(observation) for _ in range(execute)])
        policy.reset(seed=3)
        np.testing.assert_array_equal(given, policy.predict_chunk(observation)[:execute])
