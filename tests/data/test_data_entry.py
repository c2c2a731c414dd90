"""What a writer is given: a bad value is refused where it comes in, and costs no other episode."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter, image_column
from keystep.data.check import check_dataset

TASKS = {"lift": "Lift the block.", "push": None}
FEATURES = {
    "action": Column("float32", (2,)),
    "exact": Column("float64", (1,)),
    "count": Column("int64", (1,)),
    "small": Column("uint8", (3,)),
    "keystep": Column("bool", (1,)),
    "code": Column("string", (1,)),
    "observation.images.static": image_column(4, 6),
}
SPEC = DatasetSpec(20, FEATURES, TASKS, extras=("names", "weight"))
EXTRAS = {"names": ["red cube"], "weight": 2}


def frames(length: int = 3) -> dict[str, Any]:
    return {
        "action": np.zeros((length, 2), np.float32),
        "exact": np.ones((length, 1)),
        "count": np.full((length, 1), 2**63 - 1),
        "small": np.zeros((length, 3), np.uint8),
        "keystep": np.zeros(length, bool),
        "code": ["done()"] * length,
        "observation.images.static": np.zeros((length, 4, 6, 3), np.uint8),
    }


def episode(**changes: Any) -> dict[str, Any]:
    """Arguments of `add_episode`; a change may be of a column of `frames`, with a dot for an underscore."""
    columns = {name.replace("__", "."): value for name, value in changes.items()}
    known = {name: columns.pop(name) for name in list(columns) if name in frames()}
    given = {"frames": {**frames(), **known}, "task": "lift", "seed": 0, "extras": EXTRAS}
    return {**given, **columns}


NAN = float("nan")
DEEP: list[Any] = []
for _ in range(70):
    DEEP = [DEEP]
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
BAD = [
    ({"seed": 2**63}, "seed: expected a whole number from 0 to 9223372036854775807, got 9223372036854775808"),
    ({"seed": -1}, "seed: .* got -1"),
    ({"seed": 1.0}, r"seed: .* got 1\.0"),
    ({"seed": True}, "seed: .* got True"),
    ({"seed": None}, "seed: .* got None"),
    ({"seed": "1"}, "seed: .* got '1'"),
    ({"seed": np.uint64(2**63)}, "seed: .*9223372036854775808"),
    ({"seed": 10**400}, "seed: expected a whole number"),
    ({"seed": 10**5000}, "seed: .* got a value of type int"),
    ({"success": "maybe"}, "success: expected True or False, got 'maybe'"),
    ({"success": 1}, "success: .* got 1"),
    ({"success": None}, "success: .* got None"),
    ({"success": np.array([True])}, "success: expected True or False"),
    ({"task": "fly"}, "task: expected one of lift, push, got 'fly'"),
    ({"task": ["lift"]}, r"task: expected one of lift, push, got \['lift'\]"),
    ({"task": None}, "task: .* got None"),
    ({"task": "push"}, "instruction: expected this episode's, as push has none"),
    ({"instruction": "\ud800"}, "instruction: expected text that is valid UTF-8"),
    ({"instruction": "a\0"}, "instruction: expected text without NUL"),
    ({"instruction": b"Lift."}, "instruction: expected a string, got bytes"),
    ({"instruction": ""}, "instruction: expected words"),
    ({"extras": None}, r"extras: expected \['names', 'weight'\], got \[\]"),
    ({"extras": [("names", 1)]}, "extras: expected a mapping, got list"),
    ({"extras": {1: 1, "names": 2}}, "extras: expected .* got .*1"),
    ({"extras": {**EXTRAS, "names": {1, 2}}}, "extras: expected JSON values, .*set"),
    ({"extras": {**EXTRAS, "names": np.zeros(2)}}, "extras: expected JSON values, .*ndarray"),
    ({"extras": {**EXTRAS, "weight": NAN}}, "extras: expected JSON values"),
    ({"extras": {**EXTRAS, "weight": 10**5000}}, "extras: expected JSON values"),
    (
        {"extras": {**EXTRAS, "names": [{1: "a"}]}},
        "extras: expected JSON values, got a key that is no string",
    ),
    ({"extras": {**EXTRAS, "weight": DEEP}}, "extras: expected at most 64 levels inside one another, got 72"),
    ({"extras": {**EXTRAS, "weight": ENDLESS}}, "extras: expected JSON values"),
    ({"extras": {**EXTRAS, "names": ["\udcff"]}}, "extras: expected text that is valid UTF-8"),
    ({"extras": {**EXTRAS, "names": {"\udcff": 1}}}, "extras: expected text that is valid UTF-8"),
    ({"frames": None}, "frames: expected a mapping of columns, got NoneType"),
    ({"frames": {}}, r"frames: expected \['action'.* got \[\]"),
    ({"frames": {**frames(), 7: 1}}, "frames: expected .* got .*7"),
    ({"frames": frames(0)}, "frames: expected at least one, got none"),
    ({"action": None}, "action: expected a row for every frame, got None"),
    ({"action": np.float32(1)}, "action: expected a row for every frame"),
    ({"action": np.zeros((3, 2))}, r"action: expected float32 \(3, 2\), got float64 \(3, 2\)"),
    ({"action": np.zeros((3, 3), np.float32)}, r"action: expected float32 \(3, 2\)"),
    ({"action": np.zeros((3, 2), ">f4")}, r"action: expected float32 \(3, 2\), got >f4"),
    ({"action": [[1, 2], [3]]}, r"action: expected float32 \(2, 2\), got list: "),
    ({"action": np.array([[1, 2], [3, NAN], [5, 6]], np.float32)}, "action: expected finite values"),
    ({"action": np.ma.masked_equal(np.zeros((3, 2), np.float32), 0)}, "action: .* got a masked array"),
    ({"exact": np.full((3, 1), 1e200)}, r"exact: expected numbers of at most 1e\+150, .* got 1e\+200"),
    ({"count": [[2**70]] * 3}, r"count: expected int64 \(3, 1\), got object"),
    ({"count": np.full((3, 1), 2**63, np.uint64)}, r"count: expected int64 \(3, 1\), got uint64"),
    ({"count": np.zeros((2, 1), np.int64)}, r"count: expected int64 \(3, 1\), got int64 \(2, 1\)"),
    ({"small": np.full((3, 3), 256)}, r"small: expected uint8 \(3, 3\), got int64"),
    ({"keystep": np.array([0, NAN, 1])}, r"keystep: expected bool \(3,\), got float64"),
    ({"keystep": [True, None, False]}, r"keystep: expected bool \(3,\), got object"),
    ({"keystep": ["yes", "no", "no"]}, r"keystep: expected bool \(3,\), got <U3"),
    ({"code": "abc"}, "code: expected 3 strings, got str"),
    ({"code": {"a", "b", "c"}}, "code: expected 3 strings, got set"),
    ({"code": ["a", None, "c"]}, "code: frame 1: expected a string, got NoneType"),
    ({"code": ["a", "b", "\ud800"]}, "code: frame 2: expected text that is valid UTF-8"),
    ({"code": ["a", "b"]}, "code: expected 3 strings, got list of shape"),
    ({"code": np.array([1, 2, 3])}, "code: frame 0: expected a string, got int64"),
    (
        {"observation__images__static": np.zeros((3, 4, 6, 3), np.float32)},
        r"observation.images.static: expected uint8 \(3, 4, 6, 3\)",
    ),
    (
        {"observation__images__static": np.zeros((3, 3, 4, 6), np.uint8)},
        "observation.images.static: .* got uint8",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_value_is_refused_at_once_and_costs_nothing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with DatasetWriter(tmp_path, SPEC) as writer:
        writer.add_episode(**episode(seed=1, instruction="first"))
        for new in ("bad", "worse") if changes != {"task": "push"} else (None,):
            with pytest.raises(DatasetError, match=f"^{message}"):
                writer.add_episode(**episode(**{"instruction": new, **changes}))
        assert writer.episodes == 1
        writer.add_episode(**episode(seed=2, instruction="second"))
    reader = DatasetReader(tmp_path)
    assert [e.seed for e in reader.episodes()] == [1, 2] and check_dataset(tmp_path) == []
    assert reader.instructions.texts == [TASKS["lift"], "first", "second"]


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.lists(st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3) | st.none(), max_size=4),
    st.lists(st.lists(st.floats(), max_size=2), min_size=3, max_size=3),
    st.sampled_from(["\ud800", "a\0", [["x"]], {}, {"a": {1}}, {3}, object(), frames, np.zeros(3), 10**5000]),
    st.builds(
        lambda dtype, shape: np.ones(shape, dtype),
        st.sampled_from(["float32", "float64", "int64", "bool", "uint8", "U3", "O", "M8[s]", "complex64"]),
        st.sampled_from([(), (0,), (3,), (3, 1), (3, 2), (3, 3), (3, 4, 6, 3), (2, 2)]),
    ),
)  # fmt: skip


NAMES = st.sampled_from(["task", "seed", "success", "instruction", "extras", "frames", *FEATURES])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NAMES, ODD), min_size=40, max_size=40))
def test_any_value_anywhere_is_refused_or_written(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, Any]]
) -> None:
    path, kept = tmp_path_factory.mktemp("d"), 1
    with DatasetWriter(path, SPEC, flush_episodes=1000) as writer:
        writer.add_episode(**episode())
        for name, value in changes:
            given = episode()
            (given["frames"] if name in FEATURES else given)[name] = value
            try:
                writer.add_episode(**given)
                kept += 1
            except DatasetError as error:  # the first column says how long the others are to be
                assert str(error).startswith(f"{name}:") or name in ("action", "task")
            assert writer.episodes == kept
    assert len(DatasetReader(path)) == kept and check_dataset(path) == []
    shutil.rmtree(path)


def test_other_types_of_the_same_values_are_taken(tmp_path: Path) -> None:
    class Word(str):
        def __str__(self) -> str:
            return "something else"

    with DatasetWriter(tmp_path, SPEC) as writer:
        writer.add_episode(
            {**frames(), "code": (Word("lift"), np.str_("done()"), "x")},
            np.str_("lift"),
            np.int32(2**31 - 1),
            success=np.bool_(False),
            instruction=Word("lift"),
            extras={"names": "ä", "weight": [np.float64(1.5), 2**70]},
        )
    reader = DatasetReader(tmp_path)
    (found,) = reader.episodes()
    assert (found.task, found.seed, found.success, found.instruction) == ("lift", 2**31 - 1, False, "lift")
    assert found.extras == {"names": "ä", "weight": [1.5, 2**70]}
    assert reader.read_episode(found)["code"].tolist() == ["lift", "done()", "x"]


def test_arrays_may_be_filled_anew(tmp_path: Path) -> None:
    given = frames()
    with DatasetWriter(tmp_path, SPEC) as writer:
        writer.add_episode(given, "lift", 0, extras=EXTRAS)
        for column in ("action", "exact", "count", "small"):
            given[column][:] = 77
    (found,) = DatasetReader(tmp_path).iter_batches()
    for column in ("action", "exact", "count", "small"):
        np.testing.assert_array_equal(found[column], frames()[column])


def feature(dtype: Any, shape: Any = (1,), names: Any = None) -> dict[str, Any]:
    return {"features": {**FEATURES, "x": Column(dtype, shape, names)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (feature("flot32"), r"features\.x\.dtype: expected one of .*, string, image, video, got 'flot32'"),
        (feature("float"), r"features\.x\.dtype: .* got 'float'"),
        (feature("object"), r"features\.x\.dtype: .* got 'object'"),
        (feature("complex64"), r"features\.x\.dtype: .* got 'complex64'"),
        (feature(None), r"features\.x\.dtype: .* got None"),
        (feature(["float32"]), r"features\.x\.dtype: .* got \['float32'\]"),
        (feature("float32", (0,)), r"features\.x\.shape: expected a tuple of whole .*, got \(0,\)"),
        (feature("float32", ()), r"features\.x\.shape: .* got \(\)"),
        (feature("float32", [2]), r"features\.x\.shape: .* got \[2\]"),
        (feature("float32", (2.0,)), r"features\.x\.shape: .* got \(2\.0,\)"),
        (feature("image", (4, 6, 1)), r"features\.x\.shape: expected .*\b4, 6, 1"),
        (feature("float32", (1,), ("\ud800",)), r"features\.x\.names: expected text that is valid UTF-8"),
        (feature("float32", (1,), 5), r"features\.x\.names: expected a tuple of texts or None, got 5"),
        (
            feature("float32", (1,), False),
            r"features\.x\.names: expected a tuple of texts or None, got False",
        ),
        (feature("float32", (2,), "ab"), r"features\.x\.names: expected a tuple of texts or None, got 'ab'"),
        (feature("float32", (2,), (1, 2)), r"features\.x\.names: expected a string, got int"),
        (feature("float32", (2,), ("a",)), r"features\.x\.names: expected 2, one of each element, got 1"),
        (
            feature("image", (3, 6, 3), ("channels", "height", "width")),
            r"features\.x\.names: expected height, width and channels, got \('channels'",
        ),
        ({"features": {"x": "float32"}}, r"features\.x: expected a Column, got 'float32'"),
        ({"features": {"x": None}}, r"features\.x: expected a Column, got None"),
        ({"features": [1]}, r"features: expected a mapping, got \[1\]"),
        ({"tasks": ["lift"]}, r"tasks: expected a mapping, got \['lift'\]"),
        ({"collection": None}, "collection: expected a mapping, got None"),
        ({"extras": "names"}, "extras: expected a tuple of names, got 'names'"),
        ({"features": {}}, "features: expected at least one, got none"),
        ({"features": {"\ud800": Column("bool", (1,))}}, "features: expected a printable name"),
        ({"fps": 0}, "fps: expected a whole number from 1 to 1000000, got 0"),
        ({"fps": 30.0}, r"fps: .* got 30\.0"),
        ({"tasks": {"lift": "\ud800"}}, r"tasks\.lift: expected text that is valid UTF-8"),
        ({"tasks": {"lift": 3}}, r"tasks\.lift: expected a string, got int"),
        ({"tasks": {3: "Lift."}}, "tasks: expected a string, got int"),
        ({"robot_type": 3}, "robot_type: expected a string, got int"),
        ({"collection": {"a": NAN}}, "collection: expected JSON values"),
        ({"collection": {"a": {1}}}, "collection: expected JSON values"),
        ({"notes": {"a": "\ud800"}}, "notes: expected text that is valid UTF-8"),
        ({"extras": (3,)}, "extras: expected a string, got int"),
    ],
    ids=lambda value: str(value)[-50:],
)
def test_a_spec_that_no_dataset_can_have(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=f"^{message}"):
        DatasetWriter(tmp_path / "d", dataclasses.replace(SPEC, **changes))
    assert not (tmp_path / "d").exists()
