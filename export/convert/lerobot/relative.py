"""Actions relative to the state: the steps of LeRobot's pipelines that say so, and what they compute.

    action = unnormalised output + observation.state, as it was observed when the chunk was made

A step before the network remembers the state, one after it adds it; names say which dimensions stay absolute.
LeRobot calls the first `delta_actions_processor` in 0.5 and `relative_actions_processor` since 0.6; both
compute the same.
"""

from __future__ import annotations

from typing import Any

from keystep.export.convert.fields import Fields, refuse
from keystep.export.convert.lerobot.source import Given
from keystep.export.errors import ExportError

BEFORE = ("relative_actions_processor", "delta_actions_processor")
AFTER = "absolute_actions_processor"
FIELDS = {
    **dict.fromkeys(BEFORE, ("enabled", "exclude_joints", "action_names")),
    AFTER: ("enabled",),
}
"""The fields of each step."""
STATE = "observation.state"


class RelativeSteps:
    """What the steps of both pipelines say, gathered in their order.

    Attributes:
        before, after: the configuration of each, where there is one.
    """

    def __init__(self) -> None:
        self.before: Fields | None = None
        self.after: Fields | None = None

    def remember(self, config: Fields, normalised: bool) -> None:
        """Of the pipeline before the network. Raises ExportError: a second one, or one of a scaled state."""
        if self.before is not None:
            raise refuse(f"{config.where}", "one step that makes actions relative", "a second one")
        if normalised and config.flag("enabled", False):
            raise refuse(f"{config.where}", "actions relative to the state before it is normalised", "after")
        self.before = config

    def add(self, config: Fields, unnormalised: bool) -> None:
        """Of the pipeline after the network. Raises ExportError likewise."""
        if self.after is not None:
            raise refuse(f"{config.where}", "one step that makes actions absolute", "a second one")
        if not unnormalised and config.flag("enabled", False):
            raise refuse(f"{config.where}", "actions made absolute after they are unnormalised", "before")
        self.after = config

    def entry(self, used: tuple[Given, ...], action: Given, named: dict[str, str]) -> dict[str, Any] | None:
        """The manifest's `action.relative`; None: actions are absolute.

        Args:
            used: what the policy reads. named: what the robot calls a key.

        Raises:
            ExportError: the steps disagree, or it is not known which dimensions are meant.
        """
        if not self._enabled():
            return None
        assert self.before is not None
        width = action.shape[0]
        state = next((given for given in used if given.key == STATE), None)
        if state is None:
            wanted = f"{STATE}, which actions are relative to, among the inputs"
            raise refuse("config.json: input_features", wanted, ", ".join(given.key for given in used))
        if state.shape[0] < width:
            wanted = f"{width} values or more, one for each relative action"
            raise refuse(f"config.json: input_features.{STATE}.shape", wanted, [*state.shape])
        kept = _kept(self.before, width)
        places = [None if stays else place for place, stays in enumerate(kept)]
        return {"feature": named[STATE], "values": places} if not all(kept) else None

    def _enabled(self) -> bool:
        made, taken = (step is not None and step.flag("enabled", False) for step in (self.before, self.after))
        if made != taken:  # LeRobot would fail, or send what is relative to the robot
            step = self.before if made else self.after
            assert step is not None
            other = AFTER if made else BEFORE[0]
            raise refuse(f"{step.where}enabled", f"false, or {other} enabled, too", True)
        return made


def _kept(step: Fields, width: int) -> list[bool]:
    """Which dimensions stay absolute: those whose name has one of `exclude_joints` in it."""
    excluded = [text.lower() for text in step.texts("exclude_joints", ()) if text]
    if not excluded:
        return [False] * width
    names = step.texts("action_names", None)
    if names is None:  # LeRobot's rollout asks the robot for them, its evaluation takes none
        wanted = f"the names of the {width} actions (exclude_joints goes by them)"
        raise ExportError(f"{step.where}action_names: expected {wanted}, got nothing")
    if len(names) != width:
        raise refuse(f"{step.where}action_names", f"{width} names", [*names])
    return [any(part in name.lower() for part in excluded) for name in names]
