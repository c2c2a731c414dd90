"""Our own kernels for U-Nets beside torch and ONNX Runtime: one policy, equal inputs and noise."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import CONTROLLERS, PLANNERS, write_checkpoint

from keystep.export.bundle import export_bundle
from keystep.export.onnx_policy import offset_and_scale
from keystep.models import PRESETS, DiffusionConfig, SamplerConfig
from keystep.models.reference import ReferencePolicy
from keystep.models.reference_hierarchy import ReferenceHierarchy

TOLERANCE = 1e-4
PRECISIONS = ("fp32", "bf16", "int8")
# Untrained networks amplify rounding more than trained ones; `leading` keeps the sampler from adding to it.
TINY = replace(PRESETS["tiny"], tasks=3, sampler=SamplerConfig(timestep_rule="leading"))
GUIDED = replace(TINY, condition_dropout=0.1)
# Of the weights. With 7, guidance magnifies even PyTorch's own rounding to 9e-5 of double precision (ONNX
# Runtime's to 1.5e-4, our AVX kernels' to 2.3e-4); with this one all of them stay within 2e-5.
SEED = 8
Export = Callable[..., tuple[Path, Path]]


def random_config(seed: int) -> DiffusionConfig:
    """Widths, lengths and groups of all sorts. Norms over a few values would magnify rounding beyond 1e-4."""
    rng = np.random.default_rng(seed)
    groups, levels = int(rng.choice([1, 2, 4, 8])), int(rng.integers(1, 4))
    return replace(
        TINY,
        action_dim=7,
        groups=groups,
        down_dims=tuple(int(width) for width in groups * rng.integers(4, 64 // groups, levels)),
        horizon=2 ** (levels - 1) * int(rng.integers(3, 8)),
        execute=1,
        kernel_size=int(rng.choice([3, 5])),
        state_features=int(rng.integers(5, 30)),
        film_scale=bool(rng.integers(2)),
    )


CASES: dict[str, tuple[DiffusionConfig, dict[str, Any]]] = {
    **{f"random {seed}": (random_config(seed), {}) for seed in range(6)},
    "guidance": (GUIDED, {"guidance": 0.5}),
    "ddpm": (TINY, {"kind": "ddpm"}),
    "bf16 file": (TINY, {"precision": "bf16"}),
    "int8 file": (TINY, {"precision": "int8"}),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """(checkpoint, bundle) of a case by name, made once; not to be changed."""
    made: dict[str, tuple[Path, Path]] = {}

    def export(name: str) -> tuple[Path, Path]:
        if name not in made:
            config, options = CASES[name]
            folder = tmp_path_factory.mktemp("native")
            run = write_checkpoint(folder / "run", config, seed=SEED)
            made[name] = (run, export_bundle(run, folder / "x.keystep", **options))
        return made[name]

    return export


def observation(seed: int, size: int = 26) -> dict[str, np.ndarray]:
    return {"observation.state": np.random.default_rng(seed).standard_normal(size).astype(np.float32)}


def chunks(bundle: Path, count: int = 3, **options: Any) -> np.ndarray:
    """[count, H, A]: observation i and the noise of episode i."""
    with keystep.load(bundle, **{"threads": 1} | options) as runtime:
        made = []
        for i in range(count):
            runtime.reset("task_1", seed=9, episode=i)
            made.append(runtime.predict_chunk(observation(i)))
        return np.stack(made)


def torch_chunks(run: Path, options: dict[str, Any], count: int = 3) -> np.ndarray:
    changes = {key: value for key, value in options.items() if key in ("guidance", "kind")}
    reference = ReferencePolicy(run, **changes)
    made = []
    for i in range(count):
        reference.reset("task_1", seed=9, episode=i)
        made.append(reference.predict_chunk(observation(i)))
    return np.stack(made)


def all_cores() -> int:
    return len(os.sched_getaffinity(0))


@pytest.mark.parametrize("name", [name for name in CASES if "file" not in name])
def test_chunks_equal_torch(name: str, exported: Export) -> None:
    run, bundle = exported(name)
    wanted = torch_chunks(run, CASES[name][1])
    graphs = chunks(bundle, engine="onnxruntime")
    for isa in ("portable", None):
        for threads in {1, min(2, all_cores())}:
            got = chunks(bundle, engine="native", precision="fp32", isa=isa, threads=threads)
            np.testing.assert_allclose(got, wanted, atol=TOLERANCE, rtol=0)
            np.testing.assert_allclose(got, graphs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_recorded_errors_are_those_of_the_golden_data(name: str, exported: Export) -> None:
    """Of every precision that the file can run; actions in network units."""
    _, bundle = exported(name)
    manifest = keystep.read_manifest(bundle)
    errors = manifest["unet"]["errors"]
    assert tuple(errors) == PRECISIONS[PRECISIONS.index(manifest["unet"]["precision"]) :]
    with np.load(bundle / "golden.npz") as archive:
        golden = {key: archive[key] for key in archive.files}
    _, scale = offset_and_scale(manifest["action"]["normalization"])
    for precision, error in errors.items():
        difference = (golden_chunks(bundle, manifest, golden, precision) - golden["actions"]) / scale
        assert np.abs(difference).max() == pytest.approx(error["max"], rel=1e-3, abs=1e-7)
        assert np.sqrt(np.mean(difference**2)) == pytest.approx(error["rms"], rel=1e-3, abs=1e-7)
    assert errors.get("fp32", {"max": 0.0})["max"] < TOLERANCE
    assert all(error["max"] > TOLERANCE / 10 for name, error in errors.items() if name != "fp32")  # rounded


def golden_chunks(
    bundle: Path, manifest: dict[str, Any], golden: dict[str, np.ndarray], precision: str
) -> np.ndarray:
    made = []
    with keystep.load(bundle, engine="native", precision=precision) as runtime:
        for case in range(len(golden["actions"])):
            runtime.reset(manifest["tasks"][int(golden["task"][case])]["name"])
            noise = golden["noise"][case]
            seen = {"observation.state": golden["observation.state"][case]}
            made.append(runtime.predict_chunk(seen, noise[0] if len(noise) == 1 else noise))
    return np.stack(made).astype(np.float64)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_on_new_observations(precision: str, exported: Export) -> None:
    """What was recorded tells what to expect elsewhere, and each precision computes in a way of its own."""
    run, bundle = exported("guidance")
    wanted = torch_chunks(run, CASES["guidance"][1])
    manifest = keystep.read_manifest(bundle)
    _, scale = offset_and_scale(manifest["action"]["normalization"])
    got = chunks(bundle, precision=precision)
    recorded = manifest["unet"]["errors"][precision]["max"]
    assert np.abs((got - wanted) / scale).max() < max(TOLERANCE, 4 * recorded)
    others = [chunks(bundle, precision=other) for other in PRECISIONS if other != precision]
    assert all(np.abs(got - other).max() > 0 for other in others)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_bits_for_any_number_of_threads(precision: str, exported: Export) -> None:
    _, bundle = exported("random 1")
    one = chunks(bundle, precision=precision, threads=1)
    for options in (
        {"threads": 0},
        {"threads": all_cores()},
        {"threads": 0, "pin_threads": True, "spin_us": 0},
    ):
        np.testing.assert_array_equal(chunks(bundle, precision=precision, **options), one)


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_plans_equal_torch(guidance: float, tmp_path: Path) -> None:
    """Without guidance the planner's steps run one row of two."""
    planner = write_checkpoint(tmp_path / "planner", PLANNERS["state"], seed=5)
    controller = write_checkpoint(tmp_path / "controller", CONTROLLERS["state"], seed=6)
    bundle = export_bundle(controller, tmp_path / "x.keystep", planner=planner)
    reference = ReferenceHierarchy(planner, controller)
    reference.reset(instruction="Lift it.", seed=3, episode=1, guidance=guidance)
    wanted = reference.predict_plan(observation(0)).numpy()
    with keystep.load(bundle, engine="native", threads=1) as runtime:
        runtime.reset(instruction="Lift it.", seed=3, episode=1, guidance=guidance)
        plan = runtime.predict_plan(observation(0))["observation.state"]
        np.testing.assert_allclose(plan, wanted, atol=TOLERANCE, rtol=0)
        for i in range(4):
            np.testing.assert_allclose(
                runtime.act(observation(i)), reference.act(observation(i)), atol=TOLERANCE, rtol=0
            )
        chosen = {choice["file"]: choice["engine"] for choice in runtime.engine_choices}
    ours = {"film.onnx", "denoise.onnx", "plan_film.onnx", "plan_denoise.onnx"}
    assert {file for file, engine in chosen.items() if engine == "native"} == ours
    assert {"text.onnx", "encode.onnx", "plan_encode.onnx"} <= set(chosen)


# ---- which engine runs what


def test_auto_takes_the_native_engine_and_says_so(exported: Export) -> None:
    _, bundle = exported("random 0")
    with keystep.load(bundle, threads=1) as runtime:
        chosen = {choice["file"]: choice for choice in runtime.engine_choices}
        assert runtime.description.startswith("native ") and "onnxruntime" in runtime.description
    assert chosen["encode.onnx"]["engine"] == "onnxruntime"
    assert chosen["film.onnx"]["engine"] == chosen["denoise.onnx"]["engine"] == "native"
    np.testing.assert_array_equal(chunks(bundle), chunks(bundle, engine="native"))
    with keystep.load(bundle, threads=1, engine="onnxruntime") as runtime:
        assert {choice["engine"] for choice in runtime.engine_choices} == {"onnxruntime"}


def edited(bundle: Path, folder: Path, **changes: Any) -> Path:
    """A copy whose manifest says something else about the U-Net."""
    target = folder / "edited.keystep"
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["unet"] |= changes
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


CHANGES: dict[str, dict[str, Any]] = {
    "kind": {"kind": "transformer"},
    "kernel_size": {"kernel_size": 4},
    "errors": {"errors": {}},
}


@pytest.mark.parametrize("field", CHANGES)
def test_graphs_run_what_the_native_engine_does_not(field: str, exported: Export, tmp_path: Path) -> None:
    bundle = edited(exported("random 0")[1], tmp_path, **CHANGES[field])
    with keystep.load(bundle, threads=1) as runtime:
        chosen = {choice["file"]: choice for choice in runtime.engine_choices}
    for file in ("film.onnx", "denoise.onnx"):
        assert chosen[file]["engine"] == "onnxruntime"
        assert field in chosen[file]["reason"]
    np.testing.assert_array_equal(chunks(bundle), chunks(bundle, engine="onnxruntime"))
    if field == "errors":  # not measured, but asked for
        assert np.isfinite(chunks(bundle, engine="native")).all()
    else:
        with pytest.raises(keystep.ProviderError, match=field):
            keystep.load(bundle, threads=1, engine="native")


def test_a_higher_precision_than_the_file_has_is_refused(exported: Export) -> None:
    with pytest.raises(keystep.ProviderError, match=r"precision: expected"):
        keystep.load(exported("int8 file")[1], threads=1, precision="bf16")


def test_damaged_weights_are_refused(exported: Export, tmp_path: Path) -> None:
    bundle = edited(exported("random 0")[1], tmp_path)
    with (bundle / "unet.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(keystep.BundleError, match=r"unet\.safetensors is damaged"):
        keystep.load(bundle, threads=1)
