"""A feature as manifests and checkpoints write it."""

import json

import pytest

from keystep.features import Feature, features_of

STATE = Feature("observation.state", "vector", (3,), names=("x", "y", "z"))
RGB = Feature("observation.images.static", "rgb", (6, 8, 3), resize=True)
DEPTH = Feature("observation.images.wrist_depth", "depth", (6, 8), history=2)


@pytest.mark.parametrize("feature", [STATE, RGB, DEPTH])
def test_comes_back_through_json(feature):
    entry = json.loads(json.dumps(feature.to_dict() | {"normalization": {"mode": "identity"}}))
    assert features_of([entry]) == [feature]


def test_network_shapes():
    assert STATE.network_shape() == (1, 3)
    assert RGB.network_shape() == (1, 3, 6, 8)
    assert DEPTH.network_shape() == (1, 2, 1, 6, 8)
    assert DEPTH.network_shape(history=1) == (1, 1, 6, 8)
    assert [feature.width for feature in (STATE, RGB, DEPTH)] == [3, 3, 1]
    assert DEPTH.name == "images.wrist_depth"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "audio"}, r"observation.state.kind: expected vector \| rgb \| depth, got audio"),
        ({"key": "state"}, "key: expected observation.<name>, got state"),
        ({"shape": (3, 1)}, r"observation.state.shape: expected \(S,\), got \(3, 1\)"),
        ({"kind": "rgb", "names": (), "shape": (6, 8)}, r"expected \(height, width, 3\), got \(6, 8\)"),
        ({"kind": "rgb", "names": (), "shape": (6, 8, 4)}, r"expected \(height, width, 3\), got \(6, 8, 4\)"),
        ({"kind": "depth", "names": (), "shape": (0, 8)}, r"expected \(height, width\), got \(0, 8\)"),
        ({"history": 0}, "observation.state.history: expected 1 or more frames, got 0"),
        ({"names": ("x",)}, "observation.state.names: expected 3 names, got 1"),
        ({"resize": True}, "observation.state.resize: expected false but for rgb, got True"),
    ],
)
def test_refuses(changes, message):
    values = {"key": "observation.state", "kind": "vector", "shape": (3,), "names": ("x", "y", "z")}
    with pytest.raises(ValueError, match=message):
        Feature(**(values | changes))
