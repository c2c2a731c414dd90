"""What the native engine's rounding costs is measured at export; here the engine is a fake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import CONTROLLERS, PLANNERS, Checkpoints

from keystep.export import bundle, verify
from keystep.export.bundle import export_bundle
from keystep.export.comparison import Comparison, VerifyReport, compare
from keystep.export.manifest import ExportError

SMALL = {"max": 3e-6, "rms": 1e-6}
ERRORS = {"fp32": SMALL, "bf16": {"max": 0.03, "rms": 0.004}, "int8": {"max": 0.05, "rms": 0.01}}
NOTHING = {"max": float("inf"), "rms": float("inf")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


class Measurement:
    """In place of `measured_errors`: what it was asked, and what it shall answer."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, path: Path, precisions: tuple[str, ...]) -> dict[str, Any]:
        manifest = json.loads((path / "manifest.json").read_text())
        files = [graph["file"] for graph in manifest["graphs"].values()] + [manifest["golden"]["file"]]
        assert all((path / file).is_file() for file in files)  # the runtime could open it
        self.asked.append(precisions)
        return {
            place.replace("_", "."): {name: errors[name] for name in precisions if name in errors}
            for place, errors in self.answers.items()
        }


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(**answers: Any) -> Measurement:
        measurement = Measurement(**answers)
        monkeypatch.setattr(bundle, "measured_errors", measurement)
        # What is recorded is made up: the answers are not held to it.
        monkeypatch.setattr(verify, "verify_bundle", lambda *_, **__: VerifyReport("x", 4, 1e-4, ()))
        return measurement

    return install


@pytest.mark.parametrize(
    ("precision", "runnable"),
    [("fp32", ("fp32", "bf16", "int8")), ("bf16", ("bf16", "int8")), ("int8", ("int8",))],
)
def test_every_precision_that_the_weights_allow(
    precision: Any, runnable: tuple[str, ...], checkpoint: Checkpoints, measure: Any, tmp_path: Path
) -> None:
    pair = checkpoint(CONTROLLERS["state"]), checkpoint(PLANNERS["state"])
    measurement = measure(unet=ERRORS, planner_unet=ERRORS)
    folder = export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1], precision=precision)
    assert measurement.asked == [runnable]
    manifest = json.loads((folder / "manifest.json").read_text())
    for unet in (manifest["unet"], manifest["planner"]["unet"]):
        assert unet["precision"] == precision
        assert unet["errors"] == {name: ERRORS[name] for name in runnable}


def test_nothing_is_recorded_where_the_engine_refuses(
    checkpoint: Checkpoints, measure: Any, tmp_path: Path
) -> None:
    measure()
    folder = export_bundle(checkpoint(CONTROLLERS["state"]), tmp_path / "x.keystep")
    assert json.loads((folder / "manifest.json").read_text())["unet"]["errors"] == {}


def test_a_rounding_that_overflows_is_not_recorded(
    checkpoint: Checkpoints, measure: Any, tmp_path: Path
) -> None:
    measure(unet=ERRORS | {"int8": NOTHING})
    folder = export_bundle(checkpoint(CONTROLLERS["state"]), tmp_path / "x.keystep")
    assert json.loads((folder / "manifest.json").read_text())["unet"]["errors"].keys() == {"fp32", "bf16"}


@pytest.mark.parametrize(
    ("precision", "errors", "message"),
    [
        (
            "fp32",
            ERRORS | {"fp32": NOTHING},
            ".fp32: expected finite outputs on the golden data, got NaN or Inf",
        ),
        (
            "int8",
            ERRORS | {"int8": NOTHING},
            ".int8: expected finite outputs on the golden data, got NaN or Inf",
        ),
    ],
)
@pytest.mark.parametrize("place", ["unet", "planner.unet"])
def test_errors_that_make_no_bundle(
    place: str,
    precision: Any,
    errors: Any,
    message: str,
    checkpoint: Checkpoints,
    measure: Any,
    tmp_path: Path,
) -> None:
    good = {"unet": ERRORS, "planner_unet": ERRORS}
    measure(**good | {place.replace(".", "_"): errors})
    pair = checkpoint(CONTROLLERS["state"]), checkpoint(PLANNERS["state"])
    with pytest.raises(ExportError, match=re.escape(f"{place}.errors{message}")):
        export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1], precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_answers_that_differ_make_no_bundle(
    checkpoint: Checkpoints, measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp32 is not held to what it did at export, but to what it should do."""
    row = Comparison("native fp32", "golden (torch)", "plan", 3e-4, 1e-4)
    measure(unet=ERRORS)
    monkeypatch.setattr(verify, "verify_bundle", lambda *_, **__: VerifyReport("x", 4, 1e-4, (row,)))
    message = (
        r"verify.plan: expected native fp32 to be golden \(torch\) within 0.0001 in network units, got 0.0003"
    )
    with pytest.raises(ExportError, match=message):
        export_bundle(checkpoint(CONTROLLERS["state"]), tmp_path / "x.keystep")
    assert list(tmp_path.iterdir()) == []


def test_policies_without_steps_of_a_unet(checkpoint: Checkpoints, measure: Any, tmp_path: Path) -> None:
    """Neither weights nor a measurement: for ACT."""
    measurement = measure()
    folder = export_bundle(checkpoint(CONTROLLERS["act"]), tmp_path / "act.keystep")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["unet"] is None and manifest["graphs"].keys() == {"act"}
    assert not list(folder.glob("*.safetensors"))
    with pytest.raises(ExportError, match="precision: expected fp32 for a policy without steps"):
        export_bundle(checkpoint(CONTROLLERS["act"]), tmp_path / "x.keystep", precision="int8")
    assert measurement.asked == []


def test_precision_of_the_planner_alone(checkpoint: Checkpoints, measure: Any, tmp_path: Path) -> None:
    measure(planner_unet=ERRORS)
    pair = checkpoint(CONTROLLERS["act"]), checkpoint(PLANNERS["state"])
    folder = export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1], precision="bf16")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["unet"] is None and manifest["planner"]["unet"]["precision"] == "bf16"


# ---- the measurement itself


class FakeRuntime:
    """Answers each case with what torch did, moved by `error` in network units; the last value only."""

    def __init__(self, folder: Path, error: float) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.golden = np.load(folder / "golden.npz")
        self.error, self.chunks, self.plans = error, 0, 0

    def reset(self, **_: Any) -> None:
        pass

    def predict_chunk(self, *_: Any) -> np.ndarray:
        self.chunks += 1
        entry = self.manifest["action"]["normalization"]
        return self._moved(self.golden["actions"][self.chunks - 1], entry)

    def predict_plan(self, *_: Any, as_float: bool) -> dict[str, np.ndarray]:
        self.plans += 1
        entry = self.manifest["planner"]["normalization"]
        return {"observation.state": self._moved(self.golden["plan"][self.plans - 1], entry)}

    def _moved(self, answer: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
        half = (entry["max"][-1] - entry["min"][-1]) / 2
        answer = answer.astype(np.float64)
        answer[-1, -1] += self.error * half
        return answer


@pytest.fixture
def exported(checkpoint: Checkpoints, measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy whose actions have wide bounds; its manifest is believed as it is."""
    measure()
    pair = checkpoint(CONTROLLERS["state"]), checkpoint(PLANNERS["state"])
    folder = export_bundle(pair[0], tmp_path / "x.keystep", planner=pair[1])
    manifest = json.loads((folder / "manifest.json").read_text())
    wide = {"mode": "min_max", "min": [-1.0] * 6 + [-300.0], "max": [1.0] * 6 + [100.0]}
    manifest["action"]["normalization"] = wide
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(
        keystep, "read_manifest", lambda path: json.loads((path / "manifest.json").read_text())
    )
    return folder


def test_errors_are_in_network_units(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs, opened = {"fp32": 1e-6, "bf16": 1e-2, "int8": 3e-2}, []

    @contextmanager
    def load(path: Path, **options: Any) -> Iterator[FakeRuntime]:
        opened.append((options["engine"], options.get("precision")))
        yield FakeRuntime(path, costs.get(options.get("precision"), 5e-3))

    monkeypatch.setattr(keystep, "load", load)
    found = verify.measured_errors(exported, tuple(costs))
    assert set(opened) == {("native", name) for name in costs}
    with np.load(exported / "golden.npz") as golden:
        values = {"unet": golden["actions"][0].size, "planner.unet": golden["plan"][0].size}
    for place, count in values.items():
        for name, cost in costs.items():
            assert found[place][name]["max"] == pytest.approx(cost, rel=1e-3)
            assert found[place][name]["rms"] == pytest.approx(cost / count**0.5, rel=1e-3)


def test_a_refusal_warns(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise keystep.ProviderError("unet.kernel_size: expected an odd one, got 4")

    monkeypatch.setattr(keystep, "load", refuse)
    with pytest.warns(
        UserWarning, match="native engine: unet.kernel_size: expected an odd one, got 4; ONNX Runtime"
    ):
        assert verify.measured_errors(exported, ("fp32",)) == {}


@pytest.mark.parametrize(("status", "caught"), [("rejected_chunk", True), ("engine_failure", False)])
def test_answers_that_are_not_finite(
    status: Any, caught: bool, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflows(FakeRuntime):
        def predict_chunk(self, *_: Any) -> np.ndarray:
            error = keystep.PolicyError(status)
            error.status = status
            raise error

    @contextmanager
    def load(path: Path, **_: Any) -> Iterator[FakeRuntime]:
        yield Overflows(path, 0.0)

    monkeypatch.setattr(keystep, "load", load)
    if not caught:
        with pytest.raises(keystep.PolicyError):
            verify.measured_errors(exported, ("int8",))
        return
    found = verify.measured_errors(exported, ("int8",))
    assert found["unet"] == {"int8": NOTHING}
    assert found["planner.unet"]["int8"]["max"] < 1e-9


def test_twice_the_recorded_error_is_allowed() -> None:
    row = compare("native int8", "golden (torch)", "actions", np.ones(4), np.full(4, 0.9))
    row = replace(row, recorded=0.06)
    assert (row.max_error, row.rms_error) == pytest.approx((0.1, 0.1))
    assert row.within(1e-4) and not replace(row, recorded=0.04).within(1e-4)
    assert replace(row, recorded=0.0).within(0.11) and not replace(row, max_error=float("nan")).within(1.0)
