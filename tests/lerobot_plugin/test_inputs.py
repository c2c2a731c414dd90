"""LeRobot's observations and features as a bundle takes them, without LeRobot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stub_bundle import camera_entry, state_entry, stub_manifest

import keystep
from lerobot_policy_keystep.inputs import Inputs, check_action, check_rate
from lerobot_policy_keystep.tasks import Tasks, texts_of

CAMERA = "observation.images.static"
GIVEN = {"observation.state": ("STATE", (4,)), CAMERA: ("VISUAL", (3, 6, 8))}


def frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 6, 8, 3), np.uint8)


def as_lerobot(images: np.ndarray) -> np.ndarray:
    """As its `preprocess_observation` and `prepare_observation_for_inference` make them."""
    return np.moveaxis(images, -1, 1).astype(np.float32) / np.float32(255)


def batch(count: int = 3) -> dict[str, np.ndarray]:
    states = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    return {"observation.state": states, CAMERA: as_lerobot(frames(count))}


def test_frames_come_back_as_the_camera_gave_them() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    manifest = stub_manifest(observation=[camera_entry()])
    (read,) = Inputs(manifest).observations({CAMERA: as_lerobot(every)})
    assert read[CAMERA].dtype == np.uint8 and (read[CAMERA] == every[0]).all()
    assert read[CAMERA].flags.c_contiguous


def test_each_environment_has_its_row() -> None:
    given = batch() | {"observation.other": np.zeros((3, 9)), "action": np.zeros((3, 3))}
    given["observation.state"] = given["observation.state"].astype(np.float64)
    read = Inputs(stub_manifest()).observations(given)
    assert [list(each) for each in read] == [["observation.state", CAMERA]] * 3
    for number, each in enumerate(read):
        assert each["observation.state"].dtype == np.float32
        assert each["observation.state"].tolist() == given["observation.state"][number].tolist()
        assert (each[CAMERA] == frames()[number]).all()


@pytest.mark.parametrize("name", ["observation.image", "observation.images.top"])
def test_the_only_camera_is_the_only_image(name: str) -> None:
    given = batch()
    given[name] = given.pop(CAMERA)
    assert (Inputs(stub_manifest()).observations(given)[2][CAMERA] == frames()[2]).all()


def test_names_are_told_where_they_differ() -> None:
    manifest = stub_manifest(observation=[state_entry(), camera_entry("left"), camera_entry("right")])
    given = batch() | {"observation.images.a": as_lerobot(frames()), "observation.images.b": batch()[CAMERA]}
    with pytest.raises(keystep.ArgumentError, match=r"observation.images.left: expected .*rename_map"):
        Inputs(manifest).observations(given)
    told = {
        "observation.images.a": "observation.images.right",
        "observation.images.b": "observation.images.left",
    }
    names = Inputs(manifest, told).names(given)
    assert names["observation.images.left"] == "observation.images.b"
    assert Inputs(manifest, told).expected() == names
    with pytest.raises(keystep.ArgumentError, match=r"rename_map.x: expected one of .*, got observation.z"):
        Inputs(manifest, {"x": "observation.z"})


def test_what_is_renamed_is_that_alone() -> None:
    """No camera is shown to two features, and a name that LeRobot does not have is no other one."""
    left, right = "observation.images.left", "observation.images.right"
    manifest = stub_manifest(observation=[camera_entry("left"), camera_entry("right")])
    swapped = Inputs(manifest, {left: right, right: left}).names([left, right])
    assert swapped == {left: right, right: left}
    with pytest.raises(keystep.ArgumentError, match=f"{left}: expected it among LeRobot's features"):
        Inputs(manifest, {left: right}).names([left, right])
    with pytest.raises(keystep.ArgumentError, match=r"rename_map.observation.images.lfet: expected a name"):
        Inputs(manifest, {"observation.images.lfet": left}).names([left, right])
    with pytest.raises(keystep.ArgumentError, match=f"rename_map.b: expected one of {right}, got {left}"):
        Inputs(manifest, {"a": left, "b": left})
    alone = stub_manifest(observation=[state_entry(), camera_entry("left")])
    with pytest.raises(keystep.ArgumentError, match=f"{left}: expected it among"):
        Inputs(alone, {right: "observation.state"}).names([right])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (CAMERA, np.full((3, 3, 6, 8), 200.0), f"{CAMERA}: expected values of 0 to 1, got 200 to 200"),
        (CAMERA, np.full((3, 3, 6, 8), np.nan), f"{CAMERA}: expected values of 0 to 1"),
        (CAMERA, np.zeros((3, 6, 8, 3)), f"{CAMERA}: expected an RGB image"),
        (CAMERA, np.zeros((3, 6, 8)), f"{CAMERA}: expected an RGB image"),
        (CAMERA, np.zeros((2, 3, 6, 8)), f"{CAMERA}: expected 3 environments"),
        ("observation.state", np.zeros(4), r"observation.state: expected numbers \(B, 4\)"),
        ("observation.state", np.zeros((3, 4), "U1"), "observation.state: expected numbers"),
        ("observation.state", np.zeros((0, 4)), "environments: expected 1 or more, got 0"),
    ],
)
def test_what_is_no_observation_is_told_by_its_key(key: str, value: np.ndarray, words: str) -> None:
    with pytest.raises(keystep.ArgumentError, match=words):
        Inputs(stub_manifest()).observations(batch() | {key: value})


def test_features_of_a_dataset_are_compared() -> None:
    inputs = Inputs(stub_manifest())
    assert inputs.check(GIVEN, sizes=True) == {name: name for name in GIVEN}
    other = {"observation.image": GIVEN[CAMERA], "observation.state": GIVEN["observation.state"]}
    assert inputs.check(other, sizes=True)[CAMERA] == "observation.image"
    inputs.check(GIVEN | {CAMERA: ("VISUAL", (3, 384, 384))}, sizes=False)
    resized = Inputs(stub_manifest(observation=[state_entry(), camera_entry(resize=True)]))
    resized.check(GIVEN | {CAMERA: ("VISUAL", (3, 480, 640))}, sizes=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation.state": ("STATE", (7,))}, r"observation.state: expected \(4,\), got \(7,\)"),
        ({CAMERA: ("VISUAL", (3, 384, 384))}, r"static: expected \(3, 6, 8\), got \(3, 384, 384\)"),
        ({CAMERA: ("VISUAL", (4, 6, 8))}, r"static: expected \(3, 6, 8\), got \(4, 6, 8\)"),
        ({CAMERA: ("STATE", (3,))}, "static: expected an image, got STATE"),
        ({CAMERA: ("VISUAL", ())}, r"static: expected \(3, 6, 8\), got \(\)"),
        ({"observation.state": ("VISUAL", (4, 1, 1))}, "state: expected a vector, got VISUAL"),
        ({CAMERA: None}, "static: expected it among LeRobot's features .*, got observation.state"),
    ],
)
def test_the_first_feature_that_differs_is_named(changes: dict[str, Any], words: str) -> None:
    given = {key: value for key, value in (GIVEN | changes).items() if value is not None}
    with pytest.raises(keystep.ArgumentError, match=words):
        Inputs(stub_manifest()).check(given, sizes=True)


def test_an_environments_image_has_three_channels() -> None:
    for shape in ((), (4, 6, 8), (3, 6)):
        with pytest.raises(keystep.ArgumentError, match="static: expected"):
            Inputs(stub_manifest()).check(GIVEN | {CAMERA: ("VISUAL", shape)}, sizes=False)


def test_actions_are_compared() -> None:
    manifest = stub_manifest()
    check_action(manifest, (3,))
    check_action(manifest, [3], ["shoulder", "elbow", "wrist"])  # other names say nothing
    with pytest.raises(keystep.ArgumentError, match=r"action: expected \(3,\), got \(2,\)"):
        check_action(manifest, (2,))
    with pytest.raises(keystep.ArgumentError, match=r"action.names: expected x, y, z, got x, z, y"):
        check_action(manifest, (3,), ["x", "z", "y"])


@pytest.mark.parametrize("names", [{"motors": ["x", "z", "y"]}, {"x": 0, "z": 1, "y": 2}])
def test_names_of_actions_come_in_every_form_of_a_dataset(names: Any) -> None:
    with pytest.raises(keystep.ArgumentError, match=r"action.names: expected x, y, z, got x, z, y"):
        check_action(stub_manifest(), (3,), names)


def test_rates_are_compared() -> None:
    for fps in (60, 60.3, None):
        check_rate(stub_manifest(), fps)
    with pytest.raises(keystep.ArgumentError, match=r"dataset.fps: expected 60, .*, got 30"):
        check_rate(stub_manifest(), 30)


def test_only_what_the_bundle_has_is_read() -> None:
    """Others may be large, on a device, or of a type that NumPy does not have."""
    read: list[Any] = []

    def array(value: Any) -> np.ndarray:
        read.append(value)
        return np.asarray(value)

    given = batch() | {"observation.other": "no array", "next.reward": 0.0}
    Inputs(stub_manifest()).observations(given, array)
    assert [each.shape for each in read] == [(3, 4), (3, 3, 6, 8)]


def test_depth_is_not_what_lerobot_gives() -> None:
    entry = camera_entry() | {"kind": "depth", "dtype": "float32", "shape": [6, 8]}
    del entry["resize"]
    with pytest.raises(keystep.ArgumentError, match=r"static.kind: expected vector \| rgb, got depth"):
        Inputs(stub_manifest(observation=[entry]))


def test_what_a_sentence_means() -> None:
    tasks = Tasks(stub_manifest())
    assert tasks.meant("lift_red") == tasks.meant("Lift the red block.") == {"task": "lift_red"}
    for text in (None, "", "Make tea."):
        with pytest.raises(keystep.ArgumentError, match=r"task: expected lift_red \| push_red_left"):
            tasks.meant(text)
    assert Tasks(stub_manifest(), "push_red_left").meant("anything") == {"task": "push_red_left"}
    with pytest.raises(keystep.ArgumentError, match=r"task: expected lift_red \| push_.*, got 'make_tea'"):
        Tasks(stub_manifest(), "make_tea")
    alone = Tasks(stub_manifest(tasks=stub_manifest()["tasks"][:1]))
    assert alone.meant("") == {"task": "lift_red"}, "one task need not be said"


def test_a_policy_without_tasks_does_not_listen() -> None:
    manifest = stub_manifest(tasks=[])
    encode = manifest["graphs"]["encode"]
    encode["inputs"] = [tensor for tensor in encode["inputs"] if tensor["role"] != "task"]
    assert Tasks(manifest).meant("Push the block.") == {}


def test_a_planner_takes_any_sentence() -> None:
    tasks = Tasks(stub_manifest(planner={}))
    assert tasks.meant("Could you lift it?") == {"instruction": "Could you lift it?"}
    assert tasks.meant("lift_red") == {"task": "lift_red"}
    with pytest.raises(keystep.ArgumentError, match="a sentence"):
        tasks.meant("")


def test_a_text_for_each_environment() -> None:
    assert texts_of(None, 2) == [None, None] and texts_of("a", 2) == ["a", "a"]
    assert texts_of(("a", "b"), 2) == ["a", "b"]
    for told, words in (
        (7, "a text, or a list of 2, got 7"),
        ([["a"], "b"], "a text, or a list of 2"),
        (["a"], "2 texts, got 1"),
    ):
        with pytest.raises(keystep.ArgumentError, match=f"task: expected {words}"):
            texts_of(told, 2)
