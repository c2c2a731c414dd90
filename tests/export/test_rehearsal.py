"""What export or the loader would refuse is refused before the first step, with what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import keystep
from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter, image_column, layout
from keystep.export.bundle import export_bundle
from keystep.train import ControllerTraining, PlannerTraining, train
from keystep.train.trainer import Trainer

Images = dict[str, tuple[int, int]]


def write(path: Path, images: Images | None = None, constant: bool = False, **changes: Any) -> Path:
    """Data from elsewhere: nothing is known of its actions, and the tasks have no names."""
    features = {
        "observation.state": Column("float32", (3,), changes.get("names", ("x", "y", "z"))),
        "action": Column("float32", (2,), changes.get("names", ("x", "y", "z"))[:2] or None),
        **{f"observation.images.{name}": image_column(*size) for name, size in (images or {}).items()},
    }
    with DatasetWriter(path, DatasetSpec(10, features, {"t": "Do it."})) as writer:
        for number in range(4):
            rng = np.random.default_rng(number)
            frames = {
                "observation.state": rng.normal(size=(12, 3)).astype(np.float32),
                "action": rng.normal(size=(12, 2)).astype(np.float32),
                **{
                    f"observation.images.{name}": rng.integers(0, 256, (12, *size, 3), dtype=np.uint8)
                    for name, size in (images or {}).items()
                },
            }
            if constant:
                frames["action"][:, 0], frames["observation.state"][:, 1] = 60.0, 7.0
            writer.add_episode(frames, "t", seed=number)
    return path


def edit(path: Path, file: str, change: Callable[[Any], Any]) -> None:
    document = json.loads((path / file).read_text())
    change(document)
    (path / file).write_text(json.dumps(document))


def told(path: Path, *texts: str) -> None:
    """Other instructions by task index, as another tool may have written them; the side file knows none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(layout.tasks_table(list(texts)), path / layout.TASKS_PATH)
    edit(path, "meta/info.json", lambda info: info.update(total_tasks=len(texts)))
    for file in (path / "meta/episodes").rglob("*.parquet"):
        table = pq.read_table(file)
        tasks = pa.array([[texts[0]]] * len(table), table.schema.field("tasks").type)
        pq.write_table(table.set_column(table.schema.get_field_index("tasks"), "tasks", tasks), file)


def config(path: Path, kind: type = ControllerTraining, **changes: Any) -> Any:
    settings = dict(preset="tiny", steps=2, batch_size=8, device="cpu", threads=1, warmup_steps=1)
    folders = dict(dataset=path, output=path.parent / "run", cache=path.parent / "cache")
    actions = dict(action_law="absolute", action_bounds="data") if kind is ControllerTraining else {}
    return kind(**{**settings, **folders, **actions, **changes})


def set_fps(value: object) -> Callable[[Path], None]:
    return lambda path: edit(path, "meta/info.json", lambda info: info.update(fps=value))


def set_tasks(*texts: str) -> Callable[[Path], None]:
    return lambda path: told(path, *texts)


def spoil_collection(path: Path) -> None:
    edit(path, "meta/keystep.json", lambda known: known.update(x=float("nan")))


SIZES = {"images": {"a": (8, 8), "b": (8, 9)}}
PLAN = {"kind": PlannerTraining}
Case = tuple[dict[str, Any], Callable[[Path], Any], dict[str, Any], str]
REFUSED: dict[str, Case] = {
    "fps 0": ({}, set_fps(0), {}, "fps: expected a positive number, got 0"),
    "fps null": ({}, set_fps(None), {}, "fps: expected a positive number"),
    "fps nan": ({}, set_fps(float("nan")), {}, "fps: expected a positive number"),
    "equal tasks": ({}, set_tasks("go", "go"), {}, r"tasks\[1\]: expected unique.*--condition none"),
    "no task": ({}, set_tasks(""), {}, r"tasks\[0\].*meta/tasks\.parquet.*--condition none"),
    "long": ({}, set_tasks("x" * 2000), PLAN, "instruction: expected at most 1000 bytes, got 2000"),
    "NUL": ({}, set_tasks("a\0b"), PLAN, "instruction: expected text, got a NUL at 1"),
    "NUL in a name": ({}, set_tasks("a\0b"), {}, r"tasks\[0\]\S+: expected text, got a NUL.*tasks\.parquet"),
    "blank": ({}, set_tasks(" \t"), PLAN, r"white space only.*tasks\.parquet"),
    "history, ACT": (
        {},
        str,
        {"preset": "act-tiny", "history": 2},
        "history: expected 1 .ACT sees one .*; --history 1, or another preset$",
    ),
    "chunk lengths": (
        {},
        str,
        {"condition": "goal", "chunk_start": 1, "execute": 4},
        r"chunk_lengths: expected .* <= 7 .horizon - chunk_start., got .4, 8.; --chunk-lengths",
    ),
    "start": (
        {},
        str,
        {"chunk_start": 1},
        r"chunk_start: expected 0\.\.0 .*--chunk-start .*--execute",
    ),
    "also": ({}, str, {"also": ("observation.far",)}, "also: expected some of none, got 'observation.far'"),
    "also twice": ({}, str, {"also": ("observation.state",)}, "also: expected some of none, got"),
    "camera": (SIZES, str, {"cameras": ("top",)}, "cameras: expected some of a, b, got 'top'"),
    "nothing": ({}, str, {"observe": "images"}, "observation: expected at least one feature.*--observe"),
    "levels": ({}, str, PLAN | {"subgoals": 7}, "subgoals: expected a multiple of 2.*--subgoals"),
    "odd image": (
        SIZES,
        str,
        PLAN | {"subgoal": "observation.images.b"},
        "camera: expected multiples of 2, got 8 x 9.*--subgoal",
    ),
    "hold": ({"constant": True}, str, {"hold": "0,0"}, r"hold\[0\]: expected a value in 60\.\.60 \(action_b"),
    "collection": ({}, spoil_collection, {}, "expected a finite number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_step(tmp_path: Path, case: str) -> None:
    data, change, options, message = REFUSED[case]
    path = write(tmp_path / "d", **data)
    change(path)
    with pytest.raises((ValueError, DatasetError), match=message):
        Trainer(config(path, **options))
    assert not (tmp_path / "run").exists()


def test_values_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d")
    original = DatasetReader.iter_batches

    def spoiled(reader: Any, columns: Any, rows: int = 1024) -> Any:
        for batch in original(reader, columns, rows):
            if "observation.state" in batch:
                batch["observation.state"] = batch["observation.state"].copy()
                batch["observation.state"][25, 2] = np.inf
            yield batch

    monkeypatch.setattr("keystep.data.reader.DatasetReader.iter_batches", spoiled)
    with pytest.raises(
        DatasetError, match=r"observation.state\[2\].*: expected finite .* inf in frame 1 of episode 2"
    ):
        Trainer(config(path))


TRAINED: dict[str, tuple[dict[str, Any], Callable[[Path], Any], dict[str, Any]]] = {
    "no names": ({"names": ()}, str, {}),
    "a constant": ({"constant": True}, str, {}),
    "a constant, ACT": ({"constant": True}, str, {"preset": "act-tiny"}),
    "other letters": ({"names": ("ä", "日", "🍎")}, lambda d: told(d, "nimm den 🍎"), {}),
    "one camera of two": ({"images": {"a.b": (8, 8), "c": (8, 9)}}, str, {"cameras": ("a.b",)}),
    "cameras of two sizes": (SIZES, str, {}),
    "one pixel": ({"images": {"a": (1, 1)}}, str, {}),
    "equal tasks, told none": ({}, lambda d: told(d, "go", "go"), {"condition": "none"}),
}


@pytest.mark.parametrize("case", TRAINED)
def test_what_is_trained_is_exported_and_loaded(tmp_path: Path, case: str) -> None:
    data, change, options = TRAINED[case]
    path = write(tmp_path / "d", **data)
    change(path)
    train(config(path, **options))
    bundle = export_bundle(tmp_path / "run", tmp_path / "b.keystep")
    manifest = keystep.read_manifest(bundle)
    assert manifest["action"]["hold"] == {"mode": "last"}
    assert manifest["provenance"]["action_law"] == ["absolute", "absolute"]
    with keystep.load(bundle, threads=1) as policy:
        policy.reset(task=next(iter(policy.task_names), None))
        seen: dict[str, Any] = {"observation.state": np.zeros(3, np.float32)}
        for entry in manifest["observation"]:
            seen.setdefault(entry["key"], np.zeros(entry["shape"], entry["dtype"]))
        assert np.isfinite(policy.act(seen)).all()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "d")
    (tmp_path / "run").write_text("a file")
    with pytest.raises(DatasetError, match="run: expected a folder to write checkpoints to"):
        Trainer(config(path))


def test_what_is_not_seen_and_what_no_planner_can_imagine_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "d", images={"a": (8, 8)})
    notes = "\n".join(Trainer(config(path, condition="goal")).recipe.notes)
    assert "warning: the goal is observation.state and observation.images.a, a planner imagines one" in notes
    notes = "\n".join(Trainer(config(path, condition="goal", observe="state")).recipe.notes)
    assert "not seen by the policy: observation.images.a" in notes and "warning" not in notes


def test_what_was_chosen_is_told_and_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "d")
    train(config(path))
    told = capsys.readouterr().err
    assert "action bounds: x" in told and "hold: last" in told and "action law: absolute" in told
    train(config(path, hold="0.5,0", action_bounds="margin=1"))  # done, but described anew
    document = json.loads((tmp_path / "run/policy.json").read_text())
    assert document["action"]["hold"] == {"mode": "values", "values": [0.5, 0.0]}
    with pytest.raises(DatasetError, match=r"action_law: expected \['absolute', 'absolute'\] to resume, got"):
        train(config(path, action_law="relative", hold="last"))
