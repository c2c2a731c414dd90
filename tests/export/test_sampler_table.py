"""A sampler's fields stand once, in C++ (sampler_fields.hpp): what stands beside it is the same."""

from __future__ import annotations

import ast
import json
import math
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import keystep
from keystep import _core
from keystep.export.manifest import SCHEMA
from keystep.models import SamplerConfig

LAW = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["sampler"]
TABLE = {name: (choices, bounds, default) for name, choices, bounds, default in _core.sampler_fields()}
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}


def law_of(name: str) -> dict[str, Any]:
    """A field as the schema has to say it."""
    choices, (low, high, is_open), default = TABLE[name]
    if choices:
        return {"enum": choices}
    law: dict[str, Any] = {}
    if abs(low) < sys.float_info.max:
        law["exclusiveMinimum" if is_open else "minimum"] = low
    if abs(high) < sys.float_info.max:
        law["exclusiveMaximum" if is_open else "maximum"] = high
    kind = TYPES[type(default)]
    if kind == "array":
        return {"type": kind, "items": {"type": "number"} | law}
    return {"type": kind} | ({} if kind == "boolean" else law)


def test_the_python_configuration_has_its_fields_and_defaults() -> None:
    ours = [(field.name, field.default) for field in fields(SamplerConfig)]
    wanted = [(name, tuple(value) if value == [] else value) for name, (_, _, value) in TABLE.items()]
    assert ours == wanted
    assert list(keystep.SamplerSpec().as_dict().items()) == [(n, v) for n, (_, _, v) in TABLE.items()]


def test_the_schema_has_its_fields() -> None:
    assert list(LAW["properties"]) == LAW["required"] == list(TABLE)
    assert LAW["additionalProperties"] is False


@pytest.mark.parametrize("name", TABLE)
def test_the_schema_has_its_ranges_and_choices(name: str) -> None:
    law = {key: value for key, value in LAW["properties"][name].items() if key != "description"}
    assert law == law_of(name)


def test_the_types_are_stubbed_as_they_are() -> None:
    """_core.pyi: the attributes, and the keywords with their defaults."""
    stub = ast.parse((Path(keystep.__file__).parent / "_core.pyi").read_text())
    (spec,) = (node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "SamplerSpec")
    attributes = [node.target.id for node in spec.body if isinstance(node, ast.AnnAssign)]  # type: ignore[union-attr]
    (init,) = (node for node in spec.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    keywords = [argument.arg for argument in init.args.kwonlyargs]
    assert attributes == keywords == list(TABLE)
    for name, default in zip(keywords, init.args.kw_defaults, strict=True):
        assert name == "betas" or ast.literal_eval(default) == TABLE[name][2], name  # type: ignore[arg-type]


def test_every_field_says_what_it_means() -> None:
    assert all(vars(keystep.SamplerSpec)[name].__doc__.endswith(".") for name in TABLE)


def test_kinds_take_what_the_fields_know() -> None:
    """Every prediction and every rule is some kind's, and no kind has others."""
    kinds = _core.sampler_kinds()
    assert list(kinds) == TABLE["kind"][0]
    for column, field in ((1, "prediction"), (2, "timestep_rule")):
        assert {value for kind in kinds.values() for value in kind[column]} == set(TABLE[field][0])
    for name, (flow, predictions, rules) in kinds.items():
        for prediction in TABLE["prediction"][0]:
            for rule in TABLE["timestep_rule"][0]:
                spec = keystep.SamplerSpec(
                    kind=name, prediction=prediction, timestep_rule=rule, clip_sample=not flow
                )
                if prediction in predictions and rule in rules:
                    spec.validate()
                else:
                    with pytest.raises(
                        keystep.ArgumentError, match=r"^(prediction|timestep_rule): expected "
                    ):
                        spec.validate()


@pytest.mark.parametrize("name", [name for name, (choices, _, _) in TABLE.items() if choices])
def test_unknown_choices_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(keystep.ArgumentError, match=rf"^{name}: expected .*, got 'x'$") as caught:
        keystep.SamplerSpec(**{name: "x"}).validate()
    assert all(choice in str(caught.value) for choice in TABLE[name][0])


@pytest.mark.parametrize("name", [name for name, (_, _, default) in TABLE.items() if type(default) is float])
def test_numbers_are_finite_and_within_their_bounds(name: str) -> None:
    """Beyond each end, and at each end that is excluded; of what only linear schedules read, too."""
    low, high, is_open = TABLE[name][1]
    beyond = {math.nan, math.inf, -math.inf, math.nextafter(low, -math.inf)} | ({low} if is_open else set())
    beyond |= {math.nextafter(high, math.inf)} | ({high} if is_open else set())
    for value in beyond:
        spec = keystep.SamplerSpec(beta_schedule="linear", **{name: value})
        with pytest.raises(keystep.ArgumentError, match=rf"^{name}: expected "):
            spec.validate()
