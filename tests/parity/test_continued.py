"""Chunks that continue the one before: torch = ONNX Runtime = our own kernels, by every rule and sampler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import write_checkpoint

from keystep.export.bundle import export_bundle
from keystep.export.golden_file import read_golden
from keystep.export.manifest import ExportError
from keystep.export.onnx_policy import OnnxPolicy
from keystep.export.verify import verify_bundle
from keystep.files import sha256
from keystep.models import ACT_PRESETS, PRESETS, SamplerConfig
from keystep.models.config import flow_sampler
from keystep.models.merging import Continued
from keystep.models.reference import ReferencePolicy

TINY = replace(PRESETS["tiny"], tasks=3)
TRAINED = replace(TINY, max_delay=3)
GUIDED = {"condition_dropout": 0.1}
SEEING = {
    "observation": (replace(TINY.observation[0], history=2),), "chunk_start": 1, "execute": 4,
}  # fmt: skip


def of(base: Any, prediction: str, **changes: Any) -> Any:
    return replace(base, sampler=SamplerConfig(prediction=prediction), **changes)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "epsilon": (TRAINED, {}),
    "sample": (of(TINY, "sample"), {}),
    "v_prediction": (of(TRAINED, "v_prediction"), {}),
    "ddpm": (of(TRAINED, "sample"), {"kind": "ddpm"}),
    "eta": (of(TRAINED, "sample"), {"eta": 0.5}),
    "flow": (replace(TRAINED, sampler=flow_sampler(SamplerConfig())), {}),
    "guided": (replace(TRAINED, **GUIDED), {"guidance": 0.5}),
    "guided x0blend": (of(TINY, "sample", **GUIDED), {"guidance": 0.5}),
    "past rows": (replace(TRAINED, **SEEING), {}),
}
Export = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """(checkpoint, bundle) of a case by name, made once; not to be changed."""
    made: dict[str, tuple[Path, Path]] = {}

    def export(name: str) -> tuple[Path, Path]:
        if name not in made:
            config, options = CASES[name]
            folder = tmp_path_factory.mktemp("continued")
            run = write_checkpoint(folder / "run", config, seed=8)
            made[name] = (run, export_bundle(run, folder / "x.keystep", **options))
        return made[name]

    return export


def observation(seed: int) -> dict[str, np.ndarray]:
    return {"observation.state": np.random.default_rng(seed).standard_normal(26).astype(np.float32)}


def continued_of(config: Any, rule: str, seed: int) -> Continued:
    """A random one, also with fewer old rows than the delay."""
    rng = np.random.default_rng(seed)
    ahead = config.horizon - config.chunk_start
    most = config.max_delay if rule == "trained" else ahead
    delay, rows = int(rng.integers(0, most + 1)), int(rng.integers(0, ahead + 1))
    old = rng.uniform(-0.5, 1.5, (rows, config.action_dim)).astype(np.float32)
    overlap = int(rng.integers(delay, ahead + 1))
    return Continued(old, delay, overlap, rule, str(rng.choice(["linear", "exponential"])))


def rules(config: Any) -> list[str]:
    return ["x0blend", "trained"] if config.max_delay else ["x0blend"]


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
@pytest.mark.parametrize("name", CASES)
def test_chunks_equal_torch(name: str, engine: str, exported: Export) -> None:
    (run, bundle), (config, options) = exported(name), CASES[name]
    reference = ReferencePolicy(run, **options)
    with keystep.load(bundle, engine=engine, threads=1) as runtime:
        for rule in rules(config):
            for seed in range(6):
                told = continued_of(config, rule, seed)
                for policy in (reference, runtime):
                    policy.reset("task_1", seed=9, episode=seed)
                wanted = reference.predict_chunk(observation(seed), continued=told)
                got = runtime.predict_chunk(observation(seed), **vars(told))
                scale = reference.normalizer.entries["action"]
                width = (np.array(scale["max"]) - np.array(scale["min"])) / 2
                np.testing.assert_allclose(got / width, wanted / width, atol=2e-4, err_msg=f"{told}")
                kept = told.previous[: told.delay]
                start = config.chunk_start
                np.testing.assert_array_equal(got[start : start + len(kept)], kept)


@pytest.mark.parametrize("engine", ["onnxruntime", "native"])
def test_what_is_given_is_seen(engine: str, exported: Export) -> None:
    """The rows behind the prefix depend on it, and on its being marked; without one they are as ever."""
    _, bundle = exported("epsilon")
    rng = np.random.default_rng(0)
    with keystep.load(bundle, engine=engine, threads=1) as policy:
        policy.reset("task_1", seed=1)
        alone = policy.predict_chunk(observation(0))
        old = rng.uniform(0, 1, (8, 7)).astype(np.float32)
        chunks = [
            policy.predict_chunk(observation(0), previous=old, delay=3, overlap=3, rule=rule)
            for rule in ("trained", "x0blend")
        ]
        other = policy.predict_chunk(observation(0), previous=1 - old, delay=3)
        assert np.abs(chunks[0][3:] - alone[3:]).max() > 1e-3
        assert np.abs(chunks[0][3:] - chunks[1][3:]).max() > 1e-3
        assert np.abs(chunks[0][3:] - other[3:]).max() > 1e-3
        # One call, one chunk: nothing is left, and no prefix is no mask.
        np.testing.assert_array_equal(policy.predict_chunk(observation(0)), alone)
        none = policy.predict_chunk(observation(0), previous=old, delay=0, rule="trained")
        np.testing.assert_array_equal(none, alone)
        empty = policy.predict_chunk(observation(0), previous=old[:0], delay=3, rule="trained")
        np.testing.assert_array_equal(empty, alone)  # lerobot #4454: what does not exist is not given


def test_the_default_rule(exported: Export) -> None:
    """Trained where the bundle is; x0blend elsewhere."""
    old = np.full((8, 7), 0.3, np.float32)
    for name, rule in (("epsilon", "trained"), ("sample", "x0blend")):
        with keystep.load(exported(name)[1], threads=1) as policy:
            policy.reset("task_1", seed=1)
            told = policy.predict_chunk(observation(0), previous=old, delay=2)
            same = policy.predict_chunk(observation(0), previous=old, delay=2, rule=rule)
            np.testing.assert_array_equal(told, same)


REFUSED = [
    ("epsilon", {"delay": 4}, r"delay: expected 0..3 \(chunk.max_delay\), got 4"),
    ("sample", {"rule": "trained"}, r"rule: expected x0blend \(the controller was not trained with --rtc\)"),
    ("sample", {"delay": 9, "overlap": 9}, "delay: expected 0..8, got 9"),
    ("sample", {"delay": 3, "overlap": 2}, "overlap: expected 3..8"),
    ("sample", {"rule": "guided"}, r"rule: expected none \| x0blend \| trained, got 'guided'"),
    ("sample", {"decay": "cubic"}, r"decay: expected linear \| exponential, got 'cubic'"),
    ("sample", {"delay": 1.5}, "delay: expected an integer, got float"),
    ("sample", {"previous": np.zeros((2, 6), np.float32)}, r"previous: expected shape \(rows, 7\), got"),
    ("sample", {"previous": np.zeros((9, 7), np.float32)}, "previous: expected up to 8 rows of 7 values"),
    ("sample", {"previous": np.full((2, 7), np.nan, np.float32)}, "previous: expected finite numbers"),
    ("sample", {"previous": [[0.0] * 7]}, "previous: expected a numpy array, got list"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_is_refused(name: str, changes: dict[str, Any], message: str, exported: Export) -> None:
    with keystep.load(exported(name)[1], threads=1) as policy:
        policy.reset("task_1", seed=1)
        told = {"previous": np.zeros((8, 7), np.float32), "delay": 1} | changes
        with pytest.raises(keystep.Error, match=message):
            policy.predict_chunk(observation(0), **told)


def test_act_continues_nothing(tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", replace(ACT_PRESETS["act-tiny"], goal="none", tasks=3))
    with keystep.load(export_bundle(run, tmp_path / "x.keystep"), threads=1) as policy:
        policy.reset("task_1")
        old = np.zeros((8, 7), np.float32)
        with pytest.raises(
            keystep.PolicyError, match=r"rule: expected none \(.* one graph, act\), got x0blend"
        ):
            policy.predict_chunk(observation(0), previous=old, delay=1)
        assert np.isfinite(policy.predict_chunk(observation(0), previous=old, rule="none")).all()


@pytest.mark.parametrize("name", ["epsilon", "guided", "past rows"])
def test_verify_covers_it(name: str, exported: Export) -> None:
    run, bundle = exported(name)
    report = verify_bundle(bundle, run)
    assert report.ok, report
    rows = [row.ours for row in report.comparisons if row.quantity == "continued"]
    assert rows == ["C++ runtime", "native fp32", "C++ runtime"]
    manifest = keystep.read_manifest(bundle)
    golden, onnx = read_golden(bundle, manifest), OnnxPolicy(bundle, manifest, threads=1)
    for case, wanted in enumerate(golden["continued"]):
        np.testing.assert_allclose(onnx.continued(golden, case), wanted, atol=2e-4)
    plain = verify_bundle(exported("sample")[1])
    assert all(row.quantity != "continued" for row in plain.comparisons)


def test_an_optional_field(exported: Export, edit_manifest: Any) -> None:
    """A bundle without it is as before; the field and the input come together."""
    bundle = exported("epsilon")[1]
    assert keystep.read_manifest(bundle)["chunk"]["max_delay"] == 3
    assert "max_delay" not in keystep.read_manifest(exported("sample")[1])["chunk"]
    before = (bundle / "manifest.json").read_bytes()
    try:
        edit_manifest(bundle, lambda manifest: manifest["chunk"].pop("max_delay"))
        with pytest.raises(keystep.BundleError, match=r"graphs.denoise.inputs\[1\].role: expected one of"):
            keystep.load(bundle)
    finally:
        (bundle / "manifest.json").write_bytes(before)
    other = exported("sample")[1]
    before = (other / "manifest.json").read_bytes()
    try:
        edit_manifest(other, lambda manifest: manifest["chunk"].update(max_delay=2))
        with pytest.raises(keystep.BundleError, match="a tensor with the role prefix_mask"):
            keystep.load(other)
        edit_manifest(other, lambda manifest: manifest["chunk"].update(max_delay=8))
        with pytest.raises(keystep.BundleError, match=r"chunk.max_delay: .* in 1\.\.7, got 8"):
            keystep.load(other)
    finally:
        (other / "manifest.json").write_bytes(before)


def test_golden_delays_are_checked(exported: Export, tmp_path: Path, edit_manifest: Any) -> None:
    bundle = tmp_path / "x.keystep"
    shutil.copytree(exported("epsilon")[1], bundle)
    arrays = dict(np.load(bundle / "golden.npz"))
    arrays["continued.delay"][1] = 4
    np.savez(bundle / "golden.npz", **arrays)  # type: ignore[arg-type]
    digest = sha256(bundle / "golden.npz")
    edit_manifest(bundle, lambda manifest: manifest["golden"].update(sha256=digest))
    with pytest.raises(keystep.BundleError, match=r"golden.continued.delay: expected 0..3 .*, got 4"):
        verify_bundle(bundle)


def test_rounded_weights(tmp_path: Path) -> None:
    """The mask's channel is a weight like any other."""
    run = write_checkpoint(tmp_path / "run", TRAINED, seed=8)
    try:
        bundle = export_bundle(run, tmp_path / "x.keystep", precision="bf16")
    except ExportError as error:
        pytest.fail(str(error))
    assert verify_bundle(bundle, run).ok
