"""The files of a set of tried plans; see `keystep.record.plans_tried`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data.errors import DatasetError
from keystep.features import feature_of
from keystep.files import parse_json, sha256, to_json

FORMAT, VERSION = "keystep-plans", 1
DESCRIPTION = "plans.json"
TEXTS = ("task", "text", "context", "bundle")


@dataclass(frozen=True)
class PlanSpec:
    """What a plan is.

    Attributes:
        subgoal: the observation key of a subgoal, a vector.
        subgoals: M.
        names: of a subgoal's S values.
    """

    subgoal: str
    subgoals: int
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """S."""
        return len(self.names)

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> PlanSpec:
        """Of a bundle. Raises DatasetError where its plans are not of vectors."""
        planner = manifest["planner"]
        if planner is None:
            raise DatasetError(f"bundle: expected one with a planner, got family {manifest['family']}")
        feature, _ = feature_of(manifest, planner["subgoal"])
        if feature.is_image:
            raise DatasetError(f"bundle: expected plans of vectors, got {feature.kind} ({feature.key})")
        return cls(feature.key, planner["subgoals"], feature.names)

    def schema(self) -> pa.Schema:
        texts = [pa.field(name, pa.string()) for name in TEXTS]
        counts = [pa.field("trial", pa.int64()), pa.field("number", pa.int64())]
        values = [
            pa.field("success", pa.bool_()),
            pa.field("observation", pa.list_(pa.float32(), self.width)),
            pa.field("plan", pa.list_(pa.float32(), self.subgoals * self.width)),
        ]
        return pa.schema(texts + counts + values)

    def to_dict(self) -> dict[str, Any]:
        return {"subgoal": self.subgoal, "subgoals": self.subgoals, "names": list(self.names)}


def bundle_hash(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest, which holds the hashes of the bundle's files."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def described(spec: PlanSpec, files: list[dict[str, Any]]) -> str:
    return to_json({"format": FORMAT, "version": VERSION, **spec.to_dict(), "files": files})


def describe(folder: Path) -> tuple[PlanSpec, list[dict[str, Any]]]:
    path = folder / DESCRIPTION
    try:
        document = parse_json(path.read_bytes())
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            got = f"{document['format']} version {document['version']}"
            raise DatasetError(f"{path}: expected {FORMAT} version {VERSION}, got {got}")
        spec = PlanSpec(str(document["subgoal"]), int(document["subgoals"]), tuple(document["names"]))
        return spec, [{key: entry[key] for key in ("file", "rows", "sha256")} for entry in document["files"]]
    except FileNotFoundError:
        raise DatasetError(f"{folder}: expected a set of tried plans, got no {DESCRIPTION} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected a description of tried plans, got {error!r}") from None


def read_table(folder: Path, entry: dict[str, Any], spec: PlanSpec) -> pa.Table:
    path = folder / Path(entry["file"]).name
    try:
        if (found := sha256(path)) != entry["sha256"]:
            raise DatasetError(f"{path}: expected sha256 {entry['sha256']}, got {found}")
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: expected a file of tried plans, got {error}") from None
    if table.schema != spec.schema() or len(table) != entry["rows"]:
        wanted = f"{entry['rows']} rows of {', '.join(spec.schema().names)}"
        raise DatasetError(f"{path}: expected {wanted}, got {len(table)} of {', '.join(table.schema.names)}")
    return table
