"""The manifest's law stands twice, in manifest.schema.json and in the C++ loader: both decide alike.

Every leaf and every container of full manifests is changed in every way that a single field can be wrong;
nothing here knows the fields' names. What the loader refuses beyond the schema must be one of the RULES.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import code_checkpoint

import keystep
from keystep import _core
from keystep.export.code_bundle import export_code_bundle
from keystep.export.manifest import SCHEMA
from keystep.export.rehearsal import rehearse
from keystep.models import (
    ACT_PRESETS,
    PLANNER_PRESETS,
    PRESETS,
    PlannerConfig,
    ScorerConfig,
    camera_feature,
    random_checkpoint,
)
from keystep.models.text import load_text_encoder

LAW = json.loads(SCHEMA.read_text(encoding="utf-8"))
WHOLE = jsonschema.Draft202012Validator(LAW)
# The same in parts, each asked once: what it says of each key, and of all keys together.
PARTS = {
    key: jsonschema.Draft202012Validator(law | {"$defs": LAW["$defs"]})
    for key, law in LAW["properties"].items()
}
TOGETHER = jsonschema.Draft202012Validator(LAW | {"properties": dict.fromkeys(PARTS, True)})
Path = tuple[str | int, ...]
MISSING, EXTRA = object(), object()
VALUES = [None, True, "", "x", "NaN", "\0", "a/b", [], [None], {}, -1, 0, 1, 0.5, -0.5, 10**7, 2**40, 1e300]

# What the loader says of several fields together: by its message, and why the schema does not say it.
LENGTHS = "the length of a list depends on another field"
ORDER = "a bound depends on another field"
RULES = {
    r"expected \d+ values, got \d+$": LENGTHS,
    r"\.betas: expected \d+ values \(train_steps\)": LENGTHS,
    r"^chunk\.execute: expected an integer in 1\.\.\d+, ": ORDER,
    r"^chunk\.start: expected an integer in 0\.\.\d+, ": ORDER,
    r"^chunk\.max_delay: expected an integer in 1\.\.\d+, ": ORDER,
    r"\.inference_steps: expected 1\.\.\d+ \(train_steps\)": ORDER,
    r"\.steps_offset: expected 0\.\.\d+ \(time-steps stay below train_steps\)": ORDER,
    r"^action\.hold\.values\[\d+\]: expected a value in ": ORDER,
    r"\.max\[\d+\]: expected more than the minimum": ORDER,
    r"^action\.relative\.values\[\d+\]: expected below": ORDER,
    r"^action\.relative\.feature: expected the key of a vector": "a feature of the observation",
    r"^planner\.steps_per_subgoal: expected at least \d+ \(chunk\.execute": ORDER,
    r"a width whose reciprocal, and the offset times it, are finite floats": ORDER,
    r"^planner\.normalization: expected widths that .* can follow": ORDER,
    r"^tasks\[0\]\.instruction: expected (at most \d+ bytes|a task or an instruction)": "a planner reads it",
    r"expected unique (names|keys)": "objects of one name may differ in the rest",
    r"^graphs\.\w+\.(in|out)puts(\[\d+\](\.\w+)?)?: expected (?!an integer)": "tensors fit the rest: rows of "
    "guidance, extents, roles, who writes what another graph reads",
    r"^graphs\..*\.shape\[\d+\]: expected an integer in 1\.\.(?!2147483648,)\d+, ": "so is their product",
    r"unet\.horizon: expected \d+ \(graphs\.": "it is what the graphs take",
    r"^planner\.(sees|feels): expected (an rgb|null)": "a feature of the observation",
    r"^observation\[\d+\]\.history: expected 1 \(the planner": "of this family",
    r"^planner\.normalization: expected entries of ": "by the keys of the observation",
    r"^planner\.(vocabulary|never): expected ": "the tokenizer's numbers",
    r"^planner\.tokens\.\w+: expected [0-3], ": "the tokenizer's numbers",
    r"^planner\.tokenizer\.": "docs/tokenizer.md says more",
    r"^planner\.prompt\.": "docs/tokenizer.md says more",
    r"^planner\.api\[\d+\]\..*: expected (each|optional|none) ": "functions and parameters by name and order",
    r"^planner\.context: expected more than reply_tokens": ORDER,
}
# What only opening the files shows: `check_manifest` opens none (tests/runtime/test_bundle_content.py does).
OF_FILES = {"file", "sha256"}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    camera = camera_feature("static", 32, 32)
    plain = replace(PRESETS["tiny"], tasks=2)
    flow = replace(plain.sampler, kind="flow_euler", prediction="velocity", timestep_rule="trailing")
    seeing = replace(plain, observation=(*plain.observation, camera), image_width=16)
    configs: dict[str, Any] = {
        "flat": seeing,
        "flow": replace(seeing, sampler=replace(flow, clip_sample=False)),
        "given": replace(plain, max_delay=3),
        "act": replace(ACT_PRESETS["act-tiny"], goal="observation"),
        "subgoal": PLANNER_PRESETS["tiny"],
    }
    made = {}
    for name, config in configs.items():
        checkpoint = random_checkpoint(tmp_path_factory.mktemp("law") / name, config)
        made[name] = rehearse(checkpoint, load_text_encoder() if name == "subgoal" else None)
        if isinstance(config, PlannerConfig):
            scorer = ScorerConfig(config.observation, config.subgoals, hidden=(8,))
            folder = tmp_path_factory.mktemp("law") / "scorer"
            made["scored"] = rehearse(checkpoint, load_text_encoder(), random_checkpoint(folder, scorer))
    state = made["act"]["observation"][0]["key"]
    relative = {"feature": state, "values": [0, None, *([1] * (len(made["act"]["action"]["names"]) - 2))]}
    made["relative"] = made["act"] | {"action": made["act"]["action"] | {"relative": relative}}
    writer = code_checkpoint(tmp_path_factory.mktemp("law") / "code", "micro-state", context=300)
    bundle = export_code_bundle(writer, writer.parent / "it.keystep", reply_tokens=6, constrained=True)
    made["code"] = json.loads((bundle / "manifest.json").read_text())
    return made


@functools.cache
def part_conforms(key: str, value: str) -> bool:
    return PARTS[key].is_valid(json.loads(value))


def conforms(manifest: Any) -> bool:
    """To the schema."""
    if not isinstance(manifest, dict) or not TOGETHER.is_valid(manifest):
        return False
    return all(part_conforms(key, json.dumps(value)) for key, value in manifest.items())


def refusal(manifest: dict[str, Any]) -> str:
    """Of the loader; empty: it accepts."""
    try:
        _core.check_manifest(json.dumps(manifest))
    except keystep.BundleError as error:
        return str(error)
    return ""


# ---- the walk


def form(value: Any) -> Any:
    """Of what kind a value is, all the way down."""
    if isinstance(value, dict):
        return tuple((key, form(entry)) for key, entry in value.items())
    if isinstance(value, list):
        return ("list", *{form(entry) for entry in value})
    return type(value).__name__


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value, but of entries of one form (in a list, or of one object) the first alone."""
    yield path, value
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    seen: list[Any] = []
    for key, entry in entries:
        if isinstance(value, dict) and not isinstance(entry, dict):
            yield from places(entry, (*path, key))
        elif form(entry) not in seen:
            seen.append(form(entry))
            yield from places(entry, (*path, key))


def laws(path: Path, law: Any = LAW) -> Iterator[dict[str, Any]]:
    """What the schema says of a place, whichever branch it is in."""
    if not isinstance(law, dict):
        return
    if "$ref" in law:
        yield from laws(path, LAW["$defs"][law["$ref"].rpartition("/")[2]])
    for branch in itertools.chain(*(law.get(key, []) for key in ("anyOf", "allOf", "oneOf"))):
        yield from laws(path, branch)
    for key in ("then", "else"):
        yield from laws(path, law.get(key))
    if not path:
        yield law
    elif isinstance(path[0], int):
        yield from laws(path[1:], law.get("items"))
    else:
        inner = law.get("properties", {}).get(path[0], law.get("additionalProperties"))
        yield from laws(path[1:], inner)


def mutations(path: Path, value: Any) -> Iterator[Any]:
    yield from VALUES
    for law in laws(path):
        yield from law.get("enum", [])
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if key in law:
                yield from (law[key] - 1, law[key], law[key] + 1)
        if "maxItems" in law and isinstance(value, list):
            yield value[:1] * (law["maxItems"] + 1)
    if path and isinstance(path[-1], str):
        yield MISSING
    if isinstance(value, dict):
        yield EXTRA
    if isinstance(value, list):
        yield value[:-1]
        yield value + value[-1:]


def changed(value: Any, path: Path, mutation: Any) -> Any:
    """A copy with another value at `path`; what is not on the way there is shared."""
    if not path:
        return value | {"surprise": 1} if mutation is EXTRA else mutation
    copied = copy.copy(value)
    if mutation is MISSING and len(path) == 1:
        del copied[path[0]]
    else:
        copied[path[0]] = changed(copied[path[0]], path[1:], mutation)
    return copied


Case = tuple[Path, str, dict[str, Any]]


def cases(manifests: dict[str, dict[str, Any]]) -> Iterator[Case]:
    """(path, what was changed, the manifest that is wrong). What two manifests share is changed once."""
    walked = []
    for name, manifest in manifests.items():
        for key, entry in manifest.items():
            if key == "provenance" or (key, entry) in walked:  # the content of the first is free
                continue
            walked.append((key, entry))
            for path, value in places(entry, (key,)):
                for told, mutation in {spelled(m): m for m in mutations(path, value)}.items():
                    where = ".".join(map(str, path))
                    yield path, f"{name}: {where} = {told:.60}", changed(manifest, path, mutation)
        for mutation in (EXTRA, None, [], "x"):
            yield (), f"{name}: {spelled(mutation)}", changed(manifest, (), mutation)


def spelled(mutation: Any) -> str:
    if mutation is MISSING:
        return "missing"
    return "a key more" if mutation is EXTRA else json.dumps(mutation)


# ---- what is promised


def test_what_is_written_is_accepted_by_both(manifests: dict[str, dict[str, Any]]) -> None:
    for manifest in manifests.values():
        assert WHOLE.is_valid(manifest) and conforms(manifest)
        assert refusal(manifest) == ""


def test_schema_and_loader_decide_alike(manifests: dict[str, dict[str, Any]]) -> None:
    used: Counter[str] = Counter()
    wrong, refused = [], 0
    for path, what, manifest in cases(manifests):
        by_schema, message = not conforms(manifest), refusal(manifest)
        refused += by_schema
        if by_schema and not message and not OF_FILES & set(path):
            wrong.append(f"{what}: the schema refuses it, the loader does not")
        if message and not by_schema:
            rules = [rule for rule in RULES if re.search(rule, message)]
            used.update(rules)
            if not rules:
                wrong.append(f"{what}: the loader refuses it, the schema does not: {message}")
    assert wrong == []
    assert set(used) == set(RULES), "a rule that nothing needs"
    assert refused > 2000


def test_the_parts_are_the_whole(manifests: dict[str, dict[str, Any]]) -> None:
    for _, what, manifest in itertools.islice(cases(manifests), 0, None, 97):
        assert conforms(manifest) == WHOLE.is_valid(manifest), what
