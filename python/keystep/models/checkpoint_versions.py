"""policy.json as older versions of keystep wrote it. Importing this module needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystep.features import Feature
from keystep.models.checks import ConfigError, require
from keystep.models.observing import STATE, camera_feature, vector_feature

OLDER = ("state_dim", "cameras", "camera")
"""What a policy said of its observation before version 4."""


def upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as the newest version says the same. Raises ConfigError naming the field.

    Before version 4 the observation was {"state": {"names"}, "images": [..]}, and the policy had `state_dim`
    and `cameras`, a planner's `state_dim` or `camera`. Before version 3 every key had its default
    normalisation, and a hold was the list of its values. Where the dataset told none (its collection, kept in
    the provenance, has no action) they were zeros that training had invented, which send an arm to joint
    zero: such a hold is read as {"mode": "last"}.
    """
    if document["version"] >= 4:
        return dict(document)
    new = {**document, "normalization": document.get("normalization", {})}
    require(isinstance(new.get("policy"), dict), "policy", "an object", new.get("policy"))
    features = _features(new["policy"], _state_names(document.get("observation")))
    new["policy"] = {key: value for key, value in new["policy"].items() if key not in OLDER}
    new["observation"] = [feature.to_dict() for feature in features]
    action = new.get("action")
    if isinstance(action, dict) and isinstance(action.get("hold"), list):
        new["action"] = action | {"hold": _hold_of_list(new)}
    return new


def _features(policy: Mapping[str, Any], names: list[str]) -> list[Feature]:
    """What `OLDER` says of a policy, with the names of the state's values: as many as it is wide."""
    width, cameras = policy.get("state_dim", 0), policy.get("cameras", [])
    require(type(width) is int and width >= 0, "policy.state_dim", "a number of at least 0", width)
    require(len(names) == width, "observation.state.names", f"{width} names", names)
    require(isinstance(cameras, list), "policy.cameras", "an array", cameras)
    one = policy.get("camera")
    state = [vector_feature(STATE, width, names)] if width else []
    return state + [_camera(camera) for camera in [*cameras, *([] if one is None else [one])]]


def _camera(camera: Any) -> Feature:
    where = "policy.cameras"
    require(isinstance(camera, dict), where, "an object", camera)
    for name, kind in {"name": str, "height": int, "width": int}.items():
        value = camera.get(name)
        require(type(value) is kind, f"{where}.{name}", f"a value of type {kind.__name__}", value)
    try:
        return camera_feature(camera["name"], camera["height"], camera["width"])
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _state_names(observation: Any) -> list[str]:
    require(isinstance(observation, dict), "observation", "an object", observation)
    if observation.get("state") is None:
        return []
    state = observation["state"]
    names = state.get("names") if isinstance(state, dict) else None
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    require(texts, "observation.state.names", "an array of texts", names)
    return list(names or [])


def _hold_of_list(document: Mapping[str, Any]) -> dict[str, Any]:
    provenance = document.get("provenance")
    collection = provenance.get("dataset_collection") if isinstance(provenance, dict) else None
    if isinstance(collection, dict) and "action" not in collection:
        return {"mode": "last"}
    return {"mode": "values", "values": document["action"]["hold"]}
