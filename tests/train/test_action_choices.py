"""Hold, bounds and law of actions: as collected, as chosen, or what is known of data from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter, open_datasets
from keystep.data.action_law import with_law
from keystep.data.settings import check_resumable
from keystep.suites.franka3blocks import layout
from keystep.suites.tabletop import layout as tabletop
from keystep.train.actions import ActionChoices

COLLECTED = {"names": ["a", "b"], "units": ["m", "m"], "min": [-100.0] * 2, "max": [100.0] * 2}
COLLECTED |= {"rate_limit": None, "hold": [0.5, 0.0], "law": ["relative", "absolute"]}


def write(path: Path, actions: Any = None, names: Any = ("x", "y"), **collection: Any) -> DatasetReader:
    """One episode of (10, 2) actions; the first dimension is 0..9, the second 5."""
    rows = np.stack([np.arange(10.0), np.full(10, 5.0)], axis=1) if actions is None else np.asarray(actions)
    dtype = str(rows.dtype) if rows.dtype != np.float64 else "float32"
    features = {
        "observation.state": Column("float32", (1,), ("s",)),
        "action": Column(dtype, (rows.shape[1],), names),
    }
    with DatasetWriter(path, DatasetSpec(10, features, {"t": "Do it."}, None, collection)) as writer:
        frames = {"observation.state": np.zeros((len(rows), 1), np.float32), "action": rows.astype(dtype)}
        writer.add_episode(frames, "t", seed=0)
    return DatasetReader(path)


def test_of_other_data_the_last_action_holds_and_the_range_bounds(tmp_path: Path) -> None:
    found = ActionChoices(write(tmp_path / "d"))
    assert found.spec == {
        "names": ["x", "y"],
        "units": ["", ""],
        "min": [0.0, 5.0],
        "max": [9.0, 5.0],
        "rate_limit": None,
        "hold": {"mode": "last"},
        "law": ["absolute", "absolute"],
    }
    assert np.isnan(found.still()).all()
    told = "\n".join(found.notes)
    assert "action bounds: x 0..9, y 5..5 (data)" in told
    assert "hold: last" in told and "action law: absolute" in told and told.count("default") == 2


def test_what_was_collected_is_taken(tmp_path: Path) -> None:
    found = ActionChoices(write(tmp_path / "d", action=COLLECTED))
    assert found.spec == COLLECTED | {"hold": {"mode": "values", "values": [0.5, 0.0]}}
    np.testing.assert_array_equal(found.still(), np.array([0.0, np.nan], np.float32))
    assert "default" not in "\n".join(found.notes)
    changed = ActionChoices(DatasetReader(tmp_path / "d"), "last", "data", "relative").spec
    assert (changed["hold"], changed["min"], changed["law"]) == (
        {"mode": "last"},
        [0.0, 5.0],
        ["relative"] * 2,
    )


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ("data", ([0.0, 5.0], [9.0, 5.0])),
        ("margin=0", ([0.0, 5.0], [9.0, 5.0])),
        ("margin=0.5", ([-4.5, 5.0], [13.5, 5.0])),
    ],
)
def test_bounds_of_the_data(tmp_path: Path, bounds: str, wanted: tuple[list[float], list[float]]) -> None:
    spec = ActionChoices(write(tmp_path / "d"), bounds=bounds).spec
    assert (spec["min"], spec["max"]) == wanted


def test_bounds_of_a_file(tmp_path: Path) -> None:
    content = {"min": [-1, 5], "max": [4, 5], "names": ["p", "q"], "units": ["deg", ""], "rate_limit": [1, 2]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    found = ActionChoices(write(tmp_path / "d"), bounds=str(tmp_path / "b.json"))
    assert {key: found.spec[key] for key in content} == content
    assert "warning: action bounds: of 10 frames so many have an action outside: p 5;" in found.notes[1]


def test_hold_and_law_as_values_or_files(tmp_path: Path) -> None:
    reader = write(tmp_path / "d")
    (tmp_path / "h.json").write_text("[1, 5]")
    for hold in ("1,5", " 1 , 5.0", str(tmp_path / "h.json")):
        assert ActionChoices(reader, hold).spec["hold"] == {"mode": "values", "values": [1.0, 5.0]}
    (tmp_path / "l.json").write_text('["relative", "absolute"]')
    for law in ("relative,absolute", str(tmp_path / "l.json")):
        found = ActionChoices(reader, "1,5", law=law)
        np.testing.assert_array_equal(found.still(), np.array([0.0, np.nan], np.float32))
    np.testing.assert_array_equal(ActionChoices(reader, law="relative").still(), np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (dict(hold="zero"), "hold: expected last, 2 numbers .* got 'zero', which is no file"),
        (dict(hold="1"), "hold: expected 2 numbers, got 1"),
        (dict(hold="1,2,3"), "hold: expected 2 numbers, got 3"),
        (dict(hold="1,nan"), r"hold\[1\]: expected a finite number, got nan"),
        (dict(hold="1,"), r"hold\[1\]: expected a finite number, got ''"),
        (dict(hold="-1,5"), r"hold\[0\]: expected a value in 0\.\.9 \(action_bounds\), got -1"),
        (dict(hold="FILE", content="[1, true]"), r"hold\[1\]: expected a finite number, got True"),
        (dict(hold="FILE", content="{"), "hold: .*expected a JSON file"),
        (dict(hold="FILE", content="[" * 100_000), "hold: .*expected a JSON file"),
        (dict(bounds="range"), "action_bounds: expected data, margin=F .* got 'range'"),
        (dict(bounds="margin=-1"), "action_bounds: expected margin= and a number of 0 or more"),
        (dict(bounds="margin=nan"), "action_bounds: expected margin= and a number of 0 or more"),
        (dict(bounds="margin="), "action_bounds: expected margin= and a number of 0 or more"),
        (dict(bounds="FILE", content="[0, 1]"), "action_bounds: .*expected an object with min and max"),
        (
            dict(bounds="FILE", content='{"min": [0, 0]}'),
            "action_bounds: .*expected an object with min and max",
        ),
        (
            dict(bounds="FILE", content='{"min": [0], "max": [9, 9]}'),
            "action_bounds.min: expected 2 numbers, got 1",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 9], "max": [9, 8]}'),
            r"action_bounds.max\[1\]: expected at least 9",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, NaN], "max": [9, 9]}'),
            r"action_bounds.min\[1\]: expected a finite",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [1e999, 9]}'),
            r"action_bounds.max\[0\]: expected a fin",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [9, 9], "names": ["x", "x"]}'),
            "action_bounds.names: expected 2 different names",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [9, 9], "units": "m"}'),
            "action_bounds.units: expected 2 texts",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [9, 9], "units": ["m", "\\ud800"]}'),
            r"action_bounds.units: expected 2 texts that can be printed.* got \['m', '\\ud800'\]",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [9, 9], "names": 5}'),
            "action_bounds.names: expected 2 different names .* got 5",
        ),
        (
            dict(bounds="FILE", content='{"min": [0, 0], "max": [9, 9], "names": ["a", "b\\u202e"]}'),
            "action_bounds.names: expected 2 different names that can be printed",
        ),
        (dict(law="delta"), "action_law: expected relative, absolute, or .* got 'delta'"),
        (dict(law="relative,absolute,absolute"), "action_law: expected 2 times relative or absolute"),
        (dict(law="FILE", content='{"a": 1}'), "action_law: expected 2 times relative or absolute"),
    ],
)
def test_choices_that_cannot_be(tmp_path: Path, choice: dict[str, str], message: str) -> None:
    file = tmp_path / "choice.json"
    file.write_text(choice.pop("content", ""))
    options = {name: str(file) if value == "FILE" else value for name, value in choice.items()}
    with pytest.raises(ValueError, match=message):
        ActionChoices(write(tmp_path / "d"), **options)


def test_actions_that_are_no_finite_vectors(tmp_path: Path) -> None:
    rows = np.ones((10, 2))
    rows[7, 1] = np.nan
    with pytest.raises(DatasetError, match=r"action\[1\]: expected finite .* nan in frame 7 of episode 0"):
        reader = write(tmp_path / "nan", np.ones((10, 2)))
        reader.iter_batches = lambda *_: iter([{"action": rows}])  # type: ignore[method-assign]
        ActionChoices(reader)
    reader = write(tmp_path / "d")
    reader.features["action"] = Column("float32", (2, 1))
    with pytest.raises(
        DatasetError, match=r"action: expected numbers of one dimension, found float32 of shape \[2, 1\]"
    ):
        ActionChoices(reader)
    del reader.features["action"]
    with pytest.raises(DatasetError, match=r"features.action: expected numbers of one dimension, found none"):
        ActionChoices(reader)


@pytest.mark.parametrize(
    "names",
    [
        None,
        ("motors",),
        ("x", "x"),
        ("x", ""),
        *(("x", bad) for bad in ("a\nb", "\x1b", "\u202e", "y" * 201)),
    ],
)
def test_names_that_are_not_one_each_become_numbers(tmp_path: Path, names: Any) -> None:
    reader = write(tmp_path / "d")
    reader.features["action"] = Column("float32", (2,), names)
    assert ActionChoices(reader).spec["names"] == ["action_0", "action_1"]


def test_damaged_collections_are_refused(tmp_path: Path) -> None:
    for number, changes in enumerate(
        [
            {"min": [0.0]},
            {"hold": None},
            {"names": ["a", "a"]},
            {"units": None},
            {"law": ["relative"]},
            {"law": ["relative", "free"]},
            {"law": 5},
        ]
    ):
        reader = write(tmp_path / str(number), action=COLLECTED | changes)
        with pytest.raises(DatasetError, match=rf"keystep.json: action.{next(iter(changes))}: expected"):
            ActionChoices(reader)
    with pytest.raises(DatasetError, match=r"keystep.json: action: expected an object with"):
        ActionChoices(write(tmp_path / "other", action=[1]))


def test_datasets_from_before_laws_were_told_are_known_by_their_world() -> None:
    action = {"names": list(layout.ACTION_NAMES), "hold": [0.0] * 7}
    known = with_law({"env_id": "keystep/Franka3Blocks-v1", "action": action})
    assert known["action"]["law"] == ["relative"] * 6 + ["absolute"] == list(tabletop.ACTION_LAW)
    assert with_law({"suite": "tabletop", "action": action})["action"]["law"] == list(tabletop.ACTION_LAW)
    for other in (
        {"env_id": "elsewhere", "action": action},
        {},
        {"action": action | {"law": ["absolute"] * 7}},
    ):
        assert with_law(other) == other


def test_they_can_be_continued(tmp_path: Path) -> None:
    action = {"names": list(layout.ACTION_NAMES), "hold": [0.0] * 7}
    reader = write(tmp_path / "d", env_id="keystep/Franka3Blocks-v1", action=action)
    features = {key: reader.features[key] for key in ("observation.state", "action")}
    told = {"env_id": "keystep/Franka3Blocks-v1", "action": action | {"law": list(layout.ACTION_LAW)}}
    check_resumable(reader, DatasetSpec(10, features, {"t": "Do it."}, None, told))
    told["action"] |= {"law": ["absolute"] * 7}
    with pytest.raises(DatasetError, match=r"action\.law"):
        check_resumable(reader, DatasetSpec(10, features, {"t": "Do it."}, None, told))


def test_bounds_that_never_let_a_relative_action_rest_are_told(tmp_path: Path) -> None:
    reader = write(tmp_path / "d")  # x 0..9, y 5..5
    (note,) = [n for n in ActionChoices(reader, law="relative").notes if "no motion" in n]
    assert "warning: action bounds: y (5..5) is relative" in note and "x" not in note.split(" is ")[0]
    assert "--action-bounds" in note and "--action-law" in note
    (tmp_path / "b.json").write_text('{"min": [-9, -9], "max": [9, 9]}')
    for choices in ({"law": "relative,absolute"}, {"law": "relative", "bounds": str(tmp_path / "b.json")}):
        assert "no motion" not in "\n".join(ActionChoices(reader, **choices).notes)


def test_repeating_a_relative_action_is_said_to_move(tmp_path: Path) -> None:
    reader = write(tmp_path / "d")
    told = {law: "\n".join(ActionChoices(reader, law=law).notes) for law in ("relative", "relative,absolute")}
    for law, stop in (("relative", "--hold 0,0 stops"), ("relative,absolute", "--hold 0,VALUE stops")):
        assert "hold: last" in told[law] and "last motion" in told[law] and stop in told[law]
    assert "motion" not in "\n".join(ActionChoices(reader).notes)
    declared = write(tmp_path / "c", action=COLLECTED)
    assert "last motion" in "\n".join(ActionChoices(declared, "last").notes)
    assert "last motion" not in "\n".join(ActionChoices(declared).notes)


@pytest.mark.parametrize(
    ("collection", "options", "missing"),
    [
        ({}, {}, "action_law, action_bounds"),
        ({}, {"law": "absolute"}, "action_bounds"),
        ({}, {"law": "relative", "bounds": "margin=1"}, "hold"),
        ({}, {"law": "relative", "bounds": "margin=1", "hold": "last"}, None),
        ({}, {"law": "absolute", "bounds": "data"}, None),
        ({"suite": "moon.suite"}, {}, None),
        ({"action": COLLECTED}, {}, None),
        ({"action": {key: value for key, value in COLLECTED.items() if key != "law"}}, {}, None),
    ],
)
def test_what_nobody_tells_is_asked_for(
    tmp_path: Path, collection: dict[str, Any], options: dict[str, str], missing: str | None
) -> None:
    choices = ActionChoices(write(tmp_path / "d", **collection), **options)
    if missing is None:
        choices.require_told()
    else:
        with pytest.raises(ValueError, match=f"^{missing}: expected --.* does not tell .* got none$"):
            choices.require_told()


@pytest.mark.parametrize("silent", [0, 1])
def test_each_of_several_datasets_tells_or_nothing_is_told(tmp_path: Path, silent: int) -> None:
    """A robot's joint targets would else be trained as the motions of the demonstrations beside them."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for number, path in enumerate(paths):
        write(path, names=("a", "b"), **({} if number == silent else {"action": COLLECTED}))
    message = f"action_law, action_bounds.*as {re.escape(str(paths[silent]))} does not tell"
    with pytest.raises(ValueError, match=message):
        ActionChoices(open_datasets(paths)).require_told()
    ActionChoices(open_datasets(paths), "0,5", "data", "relative").require_told()
