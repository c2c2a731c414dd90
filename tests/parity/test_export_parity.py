"""torch = ONNX = C++: one policy, three ways to compute it, equal inputs and noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from unit_policy import TINY, unit_checkpoint  # noqa: E402

from keystep.export import graphs  # noqa: E402
from keystep.export.bundle import export_bundle  # noqa: E402
from keystep.export.rows import UnetRows, scale_offset  # noqa: E402
from keystep.export.verify import verify_bundle  # noqa: E402
from keystep.models import (  # noqa: E402
    DiffusionConfig,
    DiffusionController,
    SamplerConfig,
    camera_feature,
    load_policy,
    state_feature,
)
from keystep.models.reference import ReferencePolicy  # noqa: E402

TOLERANCE = 1e-4
CAMERA = camera_feature("static", 64, 48)
HD_EXPIT = replace(
    TINY, tasks=3, sampler=SamplerConfig(timestep_rule="hd_expit", inference_steps=7, prediction="sample")
)
GUIDED = replace(TINY, tasks=3, condition_dropout=0.1)
CASES: dict[str, tuple[DiffusionConfig, dict[str, Any]]] = {
    "flat": (replace(TINY, tasks=3), {}),
    "unconditioned": (TINY, {}),
    "three levels": (replace(TINY, tasks=3, down_dims=(16, 32, 48), kernel_size=3), {}),
    "goal": (replace(TINY, goal="observation"), {}),
    "image and goal": (replace(TINY, observation=(state_feature(26), CAMERA), goal="observation"), {}),
    "image and task": (replace(TINY, observation=(CAMERA,), tasks=2), {}),
    "bias-only FiLM": (replace(TINY, tasks=3, film_scale=False), {}),
    "guidance": (GUIDED, {"guidance": 0.5}),
    "ddpm": (replace(TINY, tasks=3), {"kind": "ddpm"}),
    "ddpm 100": (replace(TINY, tasks=3), {"kind": "ddpm", "inference_steps": 100}),
    "eta": (replace(TINY, tasks=3), {"eta": 0.7}),
    "velocity": (
        replace(TINY, sampler=SamplerConfig(timestep_rule="leading", prediction="v_prediction")),
        {},
    ),
    "clean sample": (replace(TINY, sampler=SamplerConfig(timestep_rule="linspace", prediction="sample")), {}),
    "hd_expit": (HD_EXPIT, {}),
    "hd_expit, eta": (HD_EXPIT, {"eta": 0.7}),
    "hd_expit, ddpm": (HD_EXPIT, {"kind": "ddpm"}),
    "linear": (replace(TINY, sampler=SamplerConfig(timestep_rule="leading", beta_schedule="linear")), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_torch_onnx_and_cpp_agree(name: str, tmp_path: Path) -> None:
    config, options = CASES[name]
    unit_checkpoint(tmp_path / "run", config, seed=7)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep", seed=11, **options)
    report = verify_bundle(folder, tmp_path / "run", tolerance=TOLERANCE)
    assert report.ok, str(report)
    pairs = {(row.ours, row.reference) for row in report.comparisons}
    assert ("C++ runtime", "torch (checkpoint)") in pairs
    assert ("ONNX from Python", "golden (torch)") in pairs
    native = {row.ours for row in report.comparisons if row.ours.startswith("native")}
    assert native == {"native fp32", "native bf16", "native int8"}


def run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


@pytest.mark.parametrize(("name", "seed"), [("flat", 0), ("goal", 1), ("three levels", 2)])
def test_graphs_on_random_inputs(name: str, seed: int, tmp_path: Path) -> None:
    """The hoisted FiLM and the step table of denoise give the plain module's output, to 1e-5."""
    config = CASES[name][0]
    unit_checkpoint(tmp_path / "run", config, seed=seed)
    policy, _ = load_policy(tmp_path / "run")
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    rng = np.random.default_rng(seed)
    inputs = {
        key: rng.standard_normal(shape).astype(np.float32)
        if key != "task"
        else np.array([seed % config.tasks])
        for key, shape in graphs.encode_inputs(config).items()
    }
    film = run(folder / "film.onnx", {"condition": run(folder / "encode.onnx", inputs)})
    for timestep in (0, 37, 99):
        sample = rng.standard_normal((1, config.horizon, config.action_dim)).astype(np.float32)
        step = np.array([timestep])
        got = run(folder / "denoise.onnx", {"sample": sample, "timestep": step, "film": film})
        with torch.no_grad():
            condition = policy.encode({key: torch.from_numpy(value) for key, value in inputs.items()})
            want = policy.denoise(torch.from_numpy(sample), torch.from_numpy(step), condition).numpy()
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_null_row_of_a_guided_encode(tmp_path: Path) -> None:
    """Row 0 is the condition; row 1 knows the scene, but not the task."""
    unit_checkpoint(tmp_path / "run", GUIDED)
    policy, _ = load_policy(tmp_path / "run")
    plain = graphs.EncodeGraph(policy, guided=False)
    guided = graphs.EncodeGraph(policy, guided=True)
    states = torch.randn(2, 1, GUIDED.vector_width, generator=torch.Generator().manual_seed(0))
    known = {}
    with torch.no_grad():
        for scene, task in ((0, 0), (0, 1), (1, 0)):
            inputs = (states[scene], torch.tensor([task]))
            known[scene, task] = condition = guided(*inputs)
            torch.testing.assert_close(condition[:1], plain(*inputs))
    torch.testing.assert_close(known[0, 0][1], known[0, 1][1])
    assert not torch.allclose(known[0, 0][0], known[0, 1][0])
    assert not torch.allclose(known[0, 0][1], known[1, 0][1])


@pytest.mark.parametrize("guided", [False, True])
def test_encode_and_film_are_the_film_of_the_policy(guided: bool, tmp_path: Path) -> None:
    """With a row of the step table added, every block's FiLM vector, with the 1 of its scale."""
    unit_checkpoint(tmp_path / "run", GUIDED)
    policy, _ = load_policy(tmp_path / "run")
    encode, film = graphs.EncodeGraph(policy, guided), graphs.FilmGraph(policy.unet)
    table = graphs.denoise_graph(policy).table
    inputs = {"observation.state": torch.randn(1, GUIDED.vector_width), "task": torch.tensor([2])}
    with torch.no_grad():
        split = film(encode(*inputs.values()))
        condition = policy.conditions(inputs, guided)
        for timestep in (0, 50, 99):
            steps = torch.full((len(condition),), timestep)
            whole = policy.unet.film(steps, condition) + scale_offset(policy.unet)
            torch.testing.assert_close(split + table[timestep], whole, atol=1e-5, rtol=1e-5)


def test_a_million_mishes() -> None:
    """The fast Mish of the graphs is the function torch knows, over the whole range of float32."""
    from keystep.export.operators import FastMish

    x = torch.cat([torch.linspace(-120, 120, 1_000_001), torch.tensor([-1e30, 0.0, 1e30])])
    torch.testing.assert_close(FastMish()(x), torch.nn.functional.mish(x), atol=2e-6, rtol=2e-6)


def test_closed_loop_equals_the_reference_at_every_step(tmp_path: Path) -> None:
    """Runtime and PyTorch reference over several chunks and episodes, each drawing its own noise."""
    config = replace(TINY, tasks=3)
    unit_checkpoint(tmp_path / "run", config, seed=5)
    folder = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    reference = ReferencePolicy(tmp_path / "run")
    rng = np.random.default_rng(0)
    with keystep.load(folder, threads=1) as runtime:
        for episode, task in enumerate(["task_0", "Do task 2."]):
            runtime.reset(task, seed=9, episode=episode)
            reference.reset(task, seed=9, episode=episode)
            for _ in range(2 * config.execute + 3):
                seen = {"observation.state": rng.standard_normal(config.vector_width).astype(np.float32)}
                np.testing.assert_allclose(runtime.act(seen), reference.act(seen), atol=TOLERANCE)


@pytest.mark.parametrize("film_scale", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(
    ("down_dims", "horizon"), [((16,), 1), ((16, 24), 2), ((8, 16, 32), 8), ((8, 16), 16)]
)
def test_rows_equal_the_plain_unet(
    down_dims: tuple[int, ...], horizon: int, kernel_size: int, batch: int, film_scale: bool
) -> None:
    """In double precision: a norm over three values magnifies rounding, and only the algebra is in question.

    The short chunks have taps that read nothing but padding.
    """
    shape = {"down_dims": down_dims, "horizon": horizon, "execute": 1, "kernel_size": kernel_size}
    torch.manual_seed(0)
    unet = DiffusionController(replace(TINY, **shape, film_scale=film_scale)).unet.double()
    film = torch.randn(batch, sum(unet.film_widths()), dtype=torch.float64)
    sample = torch.randn(batch, horizon, TINY.action_dim, dtype=torch.float64)
    with torch.no_grad():
        got = UnetRows(unet, horizon)(sample, film + scale_offset(unet))
        torch.testing.assert_close(got, unet.run(sample, film), atol=1e-9, rtol=1e-9)


def test_policy_runs_without_its_exporter(tmp_path: Path) -> None:
    """Exporting must not change the policy it exports: it replaces layers in copies only."""
    torch.manual_seed(0)
    policy = DiffusionController(TINY).eval()
    before = {name: type(module) for name, module in policy.named_modules()}
    graphs.denoise_graph(policy)
    graphs.EncodeGraph(policy, guided=False)
    assert {name: type(module) for name, module in policy.named_modules()} == before
