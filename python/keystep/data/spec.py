"""What does not change over the life of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keystep.data.layout import INDEX_FEATURES, Column
from keystep.data.spec_checks import check_spec


@dataclass(frozen=True)
class DatasetSpec:
    """What does not change over the life of a dataset.

    Attributes:
        fps: frames per second.
        features: observation and action columns; the index columns are added.
        tasks: name -> instruction of episodes that have none of their own; None where all have. A dataset
            that is continued may get more tasks.
        robot_type: free text.
        collection: how the data was made, JSON values; kept in meta/keystep.json. Must be equal to resume.
        extras: what every episode tells besides its frames, such as the names of its objects.
        notes: kept there, too, as the first writer knew it; may differ to resume.

    Raises:
        DatasetError: what readers would refuse (fps, a feature's name, type or shape), texts that are none,
            or a feature with the name of a column that the layout fills itself.
    """

    fps: int
    features: Mapping[str, Column]
    tasks: Mapping[str, str | None]
    robot_type: str | None = None
    collection: Mapping[str, Any] = field(default_factory=dict)
    extras: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_spec(self)

    def all_features(self) -> dict[str, Column]:
        """`features`, and the index columns of the layout."""
        return {**self.features, **INDEX_FEATURES}

    def instructions(self) -> list[str]:
        """Those that the tasks have: the first rows of the task table."""
        return list(dict.fromkeys(text for text in self.tasks.values() if text is not None))

    def side_file(self) -> dict[str, Any]:
        """What meta/keystep.json says."""
        named = [
            {"name": name} if text is None else {"name": name, "instruction": text}
            for name, text in self.tasks.items()
        ]
        extras = {"extras": list(self.extras)} if self.extras else {}
        known = {"format": "keystep-collection", "version": 1, "tasks": named}
        return {**known, **extras, **self.collection, **self.notes}
