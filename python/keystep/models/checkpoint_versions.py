"""policy.json as older versions of keystep wrote it. Importing this module needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystep.models.checks import require
from keystep.models.observing import STATE, read_observation, with_features, with_names


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
    policy = with_features(new["policy"], "policy")
    features = read_observation("policy.observation", policy.pop("observation", None))
    names = _state_names(document.get("observation"))
    width = next((feature.shape[0] for feature in features if feature.key == STATE), 0)
    require(len(names) == width, "observation.state.names", f"{width} names", names)
    new |= {"policy": policy, "observation": [f.to_dict() for f in with_names(features, names)]}
    action = new.get("action")
    if isinstance(action, dict) and isinstance(action.get("hold"), list):
        new["action"] = action | {"hold": _hold_of_list(new)}
    return new


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
