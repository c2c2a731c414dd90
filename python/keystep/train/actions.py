"""What a policy's actions are: names, bounds, what holds the robot, and the law that tells standing still.

All of it is the dataset's where keystep collected it. Of other data keystep knows what it saw and no more. A
planner's description of actions is then the range that was seen and the last action repeated, and says so; a
controller, which moves a robot by it, is not trained before it is told (`ActionChoices.require_told`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keystep.data import Dataset, DatasetError, JoinedDatasets, layout
from keystep.data.action_law import ABSOLUTE, LAWS, RELATIVE, with_law
from keystep.models.observing import numbered
from keystep.train.choices import numbers, read_choice
from keystep.train.names import PRINTABLE, is_printable, usable_names

ACTION = "action"
_ROWS = 4096  # read at a time
BOUNDS = "data, margin=F (F times the range of the data on either side) or a JSON file"
FIELDS = ("min", "max", "names", "units", "rate_limit")
"""Of a file of bounds; the first two are needed."""
_OPTIONS = {
    "action_law": "--action-law relative or absolute (or one for each dimension)",
    "action_bounds": "--action-bounds data, margin=F or FILE",
    "hold": "--hold {stop} (which stops a robot of relative actions) or last (which lets it go on)",
}
DEFAULT = " (default: the dataset does not tell)"


class ActionChoices:
    """The description of a dataset's actions.

    Args:
        hold: "last", numbers with commas between them, or a JSON file of them; None: as collected, else last.
        bounds: see BOUNDS; None: as collected, else data.
        law: "relative", "absolute", one for each dimension with commas between them, or a JSON file of them;
            None: as collected, else absolute.

    Attributes:
        spec: `names`, `units`, `min`, `max`, `rate_limit` (or None), `hold` ({"mode", "values"}), `law`.
        notes: what was chosen and why, a line each.

    Raises:
        DatasetError: the actions are not vectors of finite numbers.
        ValueError: a choice cannot be, "field: expected X, got Y".
    """

    def __init__(
        self,
        reader: Dataset,
        hold: str | None = None,
        bounds: str | None = None,
        law: str | None = None,
    ) -> None:
        self._reader, self._width = reader, reader.vector(ACTION).shape[0]
        collected = _collected(reader, self._width)
        self._low, self._high = _range(reader)
        self.spec = self._bounds(bounds, collected)
        source = bounds or ("as collected" if collected else "data")
        self.notes = [f"action bounds: {self._told_bounds()} ({source})", *self._outside()]
        self.spec["hold"] = self._hold(hold, collected)
        declared = collected.get("law")
        self.spec["law"] = self._law(law, declared)
        self.notes.append(f"hold: {self._told_hold()}{'' if hold or collected else DEFAULT}")
        self.notes.append(f"action law: {self._told_law()}{'' if law or declared else DEFAULT}")
        self.notes += self._restless()
        self._silent = [part.path for part in _parts(reader) if not _is_known(part, self._width)]
        self._untold = {
            "action_law": not law and bool(self._silent),
            "action_bounds": not bounds and bool(self._silent),
            "hold": RELATIVE in self.spec["law"] and not hold and bool(self._silent),
        }

    def require_told(self) -> None:
        """Raises ValueError where what moves a robot would be a guess: law, bounds, or what stops motions.

        Of several datasets each must tell: what one says of its actions may not be true of another's.
        """
        missing = [name for name, untold in self._untold.items() if untold]
        if missing:
            options = " and ".join(_OPTIONS[name].format(stop=self._stop()) for name in missing)
            raise ValueError(
                f"{', '.join(missing)}: expected {options}, as {self._silent[0]} does not tell and a robot "
                "will move by it, got none"
            )

    def still(self) -> np.ndarray:
        """(A,) float32: the action without motion; NaN where that is to repeat the last one."""
        return np.array([0.0 if law == RELATIVE else np.nan for law in self.spec["law"]], np.float32)

    # ---- bounds

    def _bounds(self, choice: str | None, collected: dict[str, Any]) -> dict[str, Any]:
        if choice is None and collected:
            return {key: collected[key] for key in ("names", "units", "min", "max", "rate_limit")}
        names = usable_names(self._reader.features[ACTION].names, self._width)
        seen = {
            "names": names or numbered(ACTION, self._width),
            "units": list(collected.get("units", [""] * self._width)),
            "min": self._low.tolist(),
            "max": self._high.tolist(),
            "rate_limit": collected.get("rate_limit"),
        }
        if choice in (None, "data"):
            return seen
        if str(choice).startswith("margin="):
            margin = _margin(str(choice)) * (self._high - self._low)
            return seen | {"min": (self._low - margin).tolist(), "max": (self._high + margin).tolist()}
        return seen | self._bounds_file(str(choice))

    def _bounds_file(self, path: str) -> dict[str, Any]:
        found = read_choice("action_bounds", path, BOUNDS)
        if not isinstance(found, dict) or not {"min", "max"} <= set(found) <= set(FIELDS):
            wanted = "an object with min and max, and perhaps names, units and rate_limit"
            raise ValueError(f"action_bounds: {path}: expected {wanted}, got {found!r:.80}")
        for key in ("min", "max", "rate_limit"):
            if found.get(key) is not None:
                found[key] = numbers(f"action_bounds.{key}", found[key], self._width)
        _check_texts("action_bounds", found, self._width)
        for number, (low, high) in enumerate(zip(found["min"], found["max"], strict=True)):
            if low > high:
                raise ValueError(f"action_bounds.max[{number}]: expected at least {low:g}, got {high:g}")
        return found

    def _outside(self) -> list[str]:
        """A line if there are actions that the policy will never be allowed to take."""
        low, high = np.array(self.spec["min"]), np.array(self.spec["max"])
        if ((low <= self._low) & (self._high <= high)).all():
            return []
        counts = np.zeros(self._width, np.int64)
        for rows in _finite_rows(self._reader, ACTION):
            counts += ((rows < low) | (rows > high)).sum(axis=0)
        named = [f"{name} {count}" for name, count in zip(self.spec["names"], counts, strict=True) if count]
        told = f"of {self._reader.frames} frames so many have an action outside: {', '.join(named)}"
        return [f"warning: action bounds: {told}; --action-bounds chooses others"]

    def _told_bounds(self) -> str:
        triples = zip(self.spec["names"], self.spec["min"], self.spec["max"], strict=True)
        return ", ".join(f"{name} {low:g}..{high:g}" for name, low, high in triples)

    # ---- hold and law

    def _hold(self, choice: str | None, collected: dict[str, Any]) -> dict[str, Any]:
        if choice is None:
            return {"mode": "values", "values": collected["hold"]} if collected else {"mode": "last"}
        if choice == "last":
            return {"mode": "last"}
        wanted = f"last, {self._width} numbers with commas between them, or a JSON file of them"
        values = numbers("hold", read_choice("hold", choice, wanted), self._width)
        for number, value in enumerate(values):
            low, high = self.spec["min"][number], self.spec["max"][number]
            if not low <= value <= high:
                bounds = f"a value in {low:g}..{high:g} (action_bounds)"
                raise ValueError(f"hold[{number}]: expected {bounds}, got {value:g}")
        return {"mode": "values", "values": values}

    def _law(self, choice: str | None, declared: Sequence[str] | None) -> list[str]:
        if choice is None:
            found: Any = declared or [ABSOLUTE] * self._width
        elif choice in LAWS:
            found = [choice] * self._width
        else:
            found = read_choice(
                "action_law", choice, "relative, absolute, or a JSON list with one of each dimension"
            )
        return _check_law("action_law", found, self._width)

    def _told_hold(self) -> str:
        hold, laws = self.spec["hold"], self.spec["law"]
        if hold["mode"] == "values":
            return f"values {', '.join(f'{value:g}' for value in hold['values'])}"
        if RELATIVE not in laws:
            return "last (a tick that fails repeats the last action given)"
        return (
            "last (a tick that fails repeats the last action given, which is relative: the robot goes on "
            f"with its last motion; --hold {self._stop()} stops it)"
        )

    def _stop(self) -> str:
        """What `hold` is to be where relative actions are not to go on."""
        return ",".join("0" if law == RELATIVE else "VALUE" for law in self.spec["law"])

    def _restless(self) -> list[str]:
        """A line if there are relative actions whose bounds leave no way to stand still."""
        rows = zip(*(self.spec[key] for key in ("names", "min", "max", "law")), strict=True)
        told = [
            f"{name} ({low:g}..{high:g})"
            for name, low, high, law in rows
            if law == RELATIVE and not low <= 0 <= high
        ]
        if not told:
            return []
        return [
            f"warning: action bounds: {', '.join(told)} is relative, and its bounds leave out no motion (0): "
            "the robot is never let stand still; --action-bounds margin=F or FILE gives others, "
            "--action-law absolute if the actions are no motions"
        ]

    def _told_law(self) -> str:
        laws = self.spec["law"]
        if len(set(laws)) == 1:
            return laws[0]
        named = {
            law: [n for n, own in zip(self.spec["names"], laws, strict=True) if own == law] for law in LAWS
        }
        return "; ".join(f"{law}: {', '.join(names)}" for law, names in named.items())


def _range(reader: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest action of each dimension, of the frames: statistics may be another tool's."""
    parts = [(rows.min(axis=0), rows.max(axis=0)) for rows in _finite_rows(reader, ACTION) if len(rows)]
    if not parts:
        raise DatasetError(f"{reader.path}: action: expected at least one frame, found none")
    lows, highs = zip(*parts, strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _margin(choice: str) -> float:
    text = choice.removeprefix("margin=")
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0 <= margin < math.inf:
        raise ValueError(f"action_bounds: expected margin= and a number of 0 or more, got {choice!r}")
    return margin


def _collected(reader: Dataset, width: int) -> dict[str, Any]:
    """What meta/keystep.json says of actions, checked; empty of a dataset from elsewhere."""
    where = f"{reader.path / layout.COLLECTION_PATH}: {ACTION}"
    found = with_law(reader.collection).get(ACTION)
    if found is None:
        return {}
    needed = ("names", "units", "min", "max", "rate_limit", "hold")
    if not isinstance(found, dict) or any(key not in found for key in needed):
        raise DatasetError(f"{where}: expected an object with {', '.join(needed)}, got {found!r:.80}")
    try:
        _check_texts(where, found, width)
        for key in ("min", "max", "rate_limit", "hold"):
            if found[key] is not None or key != "rate_limit":
                numbers(f"{where}.{key}", found[key], width)
        if "law" in found:
            _check_law(f"{where}.law", found["law"], width)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    return found


def _parts(reader: Dataset) -> Sequence[Dataset]:
    return reader.readers if isinstance(reader, JoinedDatasets) else [reader]


def _is_known(reader: Dataset, width: int) -> bool:
    """It describes its actions, or is of a simulated world, in which nothing breaks."""
    return bool(_collected(reader, width) or reader.collection.get("suite"))


def _check_texts(where: str, entry: dict[str, Any], width: int) -> None:
    """`names` and `units`, where they are there."""
    if "names" in entry and usable_names(entry["names"], width) is None:
        wanted = f"{width} different names {PRINTABLE}"
        raise ValueError(f"{where}.names: expected {wanted}, got {entry['names']!r:.80}")
    units = entry.get("units", [""] * width)
    if not isinstance(units, list) or len(units) != width or not all(map(is_printable, units)):
        raise ValueError(f"{where}.units: expected {width} texts {PRINTABLE}, got {units!r:.80}")


def _check_law(where: str, law: Any, width: int) -> list[str]:
    if isinstance(law, list) and len(law) == width and all(part in LAWS for part in law):
        return list(law)
    raise ValueError(f"{where}: expected {width} times relative or absolute, got {law!r:.80}")


def _finite_rows(reader: Dataset, key: str) -> Iterator[np.ndarray]:
    """All frames of a vector, (N, D) float64, batch after batch.

    Raises:
        DatasetError: NaN, Inf or what single precision, in which networks compute, cannot hold.
    """
    first = 0
    for batch in reader.iter_batches([key], _ROWS):
        rows = np.asarray(batch[key], np.float64).reshape(len(batch[key]), -1)
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(rows.astype(np.float32))
        if bad.any():
            frame, number = (int(place) for place in np.argwhere(bad)[0])
            where = f"frame {_frame(reader, first + frame)}"
            wanted = "finite numbers of single precision"
            got = f"{rows[frame, number]} in {where}; correct it or leave that episode out"
            raise DatasetError(f"{reader.path}: {key}[{number}]: expected {wanted}, got {got}")
        first += len(rows)
        yield rows


def _frame(reader: Dataset, index: int) -> str:
    for episode in reader.episodes():
        if index < episode.stop:
            return f"{index - episode.start} of episode {episode.index}"
    return str(index)
