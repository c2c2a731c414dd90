"""Histories, the row a chunk starts at, depth: numpy = ONNX = C++ on random inputs, and in golden data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_policy import DEPTH, RGB, Frames, draw, reference, write_policy

import keystep
from keystep.export.verify import verify_bundle

HISTORIES = [(1, 1, 1), (2, 1, 1), (1, 3, 2), (4, 2, 3)]


@pytest.mark.parametrize("histories", HISTORIES)
def test_episodes_equal_the_reference(tmp_path: Path, histories: tuple[int, int, int]) -> None:
    history = dict(zip(("observation.state", RGB, DEPTH), histories, strict=True))
    bundle = write_policy(tmp_path / "b.keystep", history, start=1)
    manifest, rng = keystep.read_manifest(bundle), np.random.default_rng(3)
    with keystep.load(bundle, threads=1) as policy:
        for _ in range(2):
            policy.reset()
            frames: Frames = []
            for _ in range(7):
                seen = draw(rng)
                wanted = reference(manifest, [*frames, seen])
                np.testing.assert_allclose(policy.predict_chunk(seen), wanted, atol=2e-5)
                np.testing.assert_allclose(policy.predict_chunk(seen), wanted, atol=2e-5)  # keeps nothing
                np.testing.assert_allclose(policy.act(seen), wanted[1], atol=2e-5)  # chunk.start
                frames.append(seen)


@pytest.mark.parametrize("histories", HISTORIES)
def test_golden_data_with_histories(tmp_path: Path, histories: tuple[int, int, int]) -> None:
    """The C++ runtime answers what the reference did."""
    history = dict(zip(("observation.state", RGB, DEPTH), histories, strict=True))
    report = verify_bundle(write_policy(tmp_path / "b.keystep", history))
    assert report.ok, str(report)
    assert {row.ours for row in report.comparisons} == {"C++ runtime"}  # of one graph without steps


def test_what_a_tick_refuses_is_not_kept(tmp_path: Path) -> None:
    bundle = write_policy(tmp_path / "b.keystep", {"observation.state": 2, RGB: 2, DEPTH: 2})
    manifest, rng = keystep.read_manifest(bundle), np.random.default_rng(4)
    with keystep.load(bundle, threads=1) as policy:
        policy.reset()
        first, bad, last = draw(rng), draw(rng), draw(rng)
        policy.act(first)
        bad[DEPTH][4, 2] = np.nan
        with pytest.raises(
            keystep.PolicyError, match=r"depth\.wrist\[4, 2\]: expected a finite value, got nan"
        ):
            policy.act(bad)
        np.testing.assert_allclose(policy.act(last), reference(manifest, [first, last])[0], atol=2e-5)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.zeros((5, 3), np.uint16), "expected float32, got uint16"),
        (np.zeros((5, 3)), "expected float32, got float64"),
        (np.zeros((3, 5), np.float32), r"expected shape \(5, 3\), got \(3, 5\)"),
        (np.zeros((5, 3, 1), np.float32), r"expected shape \(5, 3\), got \(5, 3, 1\)"),
        (np.zeros((10, 6), np.float32)[::2, ::2], "expected a C-contiguous array"),
        ([[0.0] * 3] * 5, "expected a numpy array, got list"),
    ],
)
def test_depth_that_does_not_fit(tmp_path: Path, depth: Any, message: str) -> None:
    bundle = write_policy(tmp_path / "b.keystep", {"observation.state": 1, RGB: 1, DEPTH: 1})
    with keystep.load(bundle, threads=1) as policy:
        policy.reset()
        with pytest.raises(keystep.ArgumentError, match=rf"^observation\.depth\.wrist: {message}"):
            policy.act(draw(np.random.default_rng(0)) | {DEPTH: depth})
        assert f"{DEPTH} float32 (5, 3)" in keystep.manifests.inputs(json.loads(json.dumps(policy.manifest)))
