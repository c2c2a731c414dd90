"""How the old chunk is weighed in the asynchronous loop, as chosen at loading: action by action that of
`predict_chunk`, whose twin in torch is tests/parity/test_merging.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from keystep.export.bundle import export_bundle
from keystep.models import PRESETS, random_checkpoint

TICKS, DELAY = 40, 2
WEIGHTS: list[tuple[str, int | None]] = [
    ("", None),
    ("exponential", None),
    ("linear", None),
    ("linear", 3),
    ("", 8),
    ("linear", 0),
]


@pytest.fixture(scope="module", params=[0, 1], ids=["plain", "trained"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of H = 8, also of a controller that was trained to continue."""
    folder = tmp_path_factory.mktemp("weights")
    random_checkpoint(folder / "checkpoint", replace(PRESETS["tiny"], horizon=8, max_delay=request.param))
    return export_bundle(folder / "checkpoint", folder / "policy.keystep")


class Reference:
    """Chunks of the same episode, in lockstep; each draws the noise of the one after the last."""

    def __init__(self, bundle: Path, observation: dict[str, np.ndarray]) -> None:
        self.policy = keystep.load(bundle, engine="onnxruntime")
        self.observation = observation
        self.policy.reset(seed=4)

    def chunk(self, **continued: Any) -> np.ndarray:
        made = self.policy.predict_chunk(self.observation, **continued)
        self.policy.interrupt()
        self.policy.act(self.observation)
        return made[self.policy.manifest["chunk"]["start"] :]


def played(bundle: Path, decay: str, overlap: int | None) -> np.ndarray:
    """The actions, each compared."""
    time = keystep.VirtualTime(chunk=(float(DELAY),))
    options: dict[str, Any] = {
        "merge": "x0blend",
        "merge_decay": decay,
        "merge_overlap": overlap,
        "engine": "onnxruntime",
    }
    with keystep.load(bundle, mode="async", virtual_time=time, **options) as policy:
        observation = {
            feature["key"]: np.full(feature["shape"], 0.25, feature["dtype"])
            for feature in policy.manifest["observation"]
        }
        reference, action_spec = Reference(bundle, observation), policy.manifest["action"]
        policy.reset(seed=4)
        usual: dict[int, int] = {}  # by the index that a snapshot was taken at
        chunk, start, given = np.zeros((0, 0), np.float32), 0, []
        for _ in range(TICKS):
            before = policy.telemetry()
            action = policy.act(observation)
            seen = policy.telemetry()
            if seen.chunks > before.chunks:
                begun = before.consumed - seen.delay
                rest = chunk[begun - start :]
                if len(rest) == 0:
                    chunk = reference.chunk()
                else:
                    delay = min(usual[begun], len(rest))
                    last = 8 - delay if overlap is None else overlap
                    chunk = reference.chunk(
                        previous=rest,
                        delay=delay,
                        overlap=max(delay, min(len(rest), last)),
                        rule="x0blend",
                        decay=decay or "exponential",
                    )
                start = begun
            usual.setdefault(before.consumed, seen.usual_delay)
            if seen.actions == before.actions:
                continue
            wanted = np.clip(chunk[before.consumed - start], action_spec["min"], action_spec["max"])
            np.testing.assert_array_equal(action, wanted.astype(np.float32))
            given.append(action)
        assert policy.telemetry().chunks_continued > 3
        reference.policy.close()
    return np.array(given)


def test_decay_and_overlap_are_those_of_predict_chunk(bundle: Path) -> None:
    found = [played(bundle, decay, overlap) for decay, overlap in WEIGHTS]
    np.testing.assert_array_equal(found[0], found[1])  # the default
    for one, other in ((1, 2), (2, 3), (3, 5)):  # an overlap beyond what is left changes nothing
        assert not np.array_equal(found[one], found[other])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_decay": "cosine"}, "merge_decay: expected exponential | linear, got 'cosine'"),
        ({"merge_overlap": 9}, "merge_overlap: expected 0..8, got 9"),
        ({"merge": "replace", "merge_overlap": 2}, "merge_overlap: expected none (merge is replace), got 2"),
        ({"merge": "blend", "merge_decay": "linear"}, "merge_decay: expected none (merge is blend), got"),
        ({"mode": "lockstep", "merge_decay": "linear"}, "merge_decay: expected none (mode is lockstep), got"),
        ({"mode": "lockstep", "merge_overlap": 0}, "merge_overlap: expected none (mode is lockstep), got 0"),
    ],
)
def test_what_means_nothing_is_refused(bundle: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(keystep.ArgumentError) as refused:
        keystep.load(bundle, **{"mode": "async", **options})
    assert message in str(refused.value)
