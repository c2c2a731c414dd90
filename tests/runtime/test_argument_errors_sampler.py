"""Every argument of the sampler and of the noise: a wrong one is an ArgumentError that names it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bad_values import BAD_INTEGERS, kind
from subgoal_stub import zeros

import keystep


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *[({"seed": value}, "seed: expected an integer") for value in BAD_INTEGERS],
        ({"seed": 0, "episode": 2**32}, "episode: expected an integer in 0..4294967295, got 4294967296"),
        ({"seed": 0, "chunk": 2**64}, "chunk: expected an integer"),
        ({"seed": 0, "step": -1}, "step: expected an integer"),
        *[
            ({"seed": 0, "shape": shape}, "shape")
            for shape in (3, "ab", None, (1.5,), (-1,), ("2",), (2**62, 8))
        ],
        ({"seed": 0, "shape": (2**63,)}, "shape[0]: expected an integer"),
        ({"seed": 0, "shape": (1,) * 65}, "shape: expected at most 32 axes, got 65"),
    ],
    ids=kind,
)
def test_noise(arguments, message):
    with pytest.raises(keystep.ArgumentError, match="^" + re.escape(message)):
        keystep.noise(**{"shape": (2, 2)} | arguments)


def test_noise_beyond_two_to_the_31_chunks():
    draws = [
        keystep.noise((8,), 7, chunk=chunk)
        for chunk in (5, 2**31 | 5, 2**32 | 5, 2**32 | 2**31 | 5, 2**33 | 5)
    ]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


SPEC_FIELDS = {
    "kind": [1, None, "dd\0pm"],
    "train_steps": [2**31, 1.5, "a", None],
    "inference_steps": [2**31, []],
    "betas": [1, "0.1", [None], ["a"], None, b"ab"],
    "beta_start": ["a", None, 10**400],
    "clip_sample": [1, None, "yes"],
    "steps_offset": [1.5],
    "guidance": ["1"],
    "noise": [0],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, bad in SPEC_FIELDS.items() for value in bad], ids=kind
)
def test_sampler_spec(field, value):
    with pytest.raises(keystep.ArgumentError, match=rf"^{field}.*: expected "):
        keystep.SamplerSpec(**{field: value})
    spec = keystep.SamplerSpec()
    with pytest.raises(keystep.ArgumentError, match=rf"^{field}.*: expected "):
        setattr(spec, field, value)
    assert spec == keystep.SamplerSpec()


def test_sampler():
    for spec in (None, {}, "ddim"):
        with pytest.raises(keystep.ArgumentError, match="spec: expected a SamplerSpec"):
            keystep.Sampler(spec)
    x = zeros(2, 2)
    sampler = keystep.Sampler(keystep.SamplerSpec(guidance=1.0))
    for timestep in (3.7, "90", None, 2**70, 91):
        with pytest.raises(keystep.ArgumentError, match="timestep: expected"):
            sampler.step(x, timestep, x)
    for output in (None, 1.0, x[0, 0], zeros(3, 2, 2), [x, x]):
        with pytest.raises(keystep.ArgumentError, match="denoise: expected"):
            sampler.sample(lambda *_, output=output: output, x)
    for noise in (None, [1.0], np.float32(1), np.array(1, np.float32)):
        with pytest.raises(keystep.ArgumentError, match="noise: expected"):
            keystep.Sampler(keystep.SamplerSpec(kind="ddpm")).sample(lambda x, t: x, noise)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", 5])
def test_names_of_fields_that_are_no_text(name):
    with pytest.raises(
        (keystep.ArgumentError, TypeError), match=r"SamplerSpec's field: expected|must be str"
    ):
        keystep.SamplerSpec(**{name: 1})
    with pytest.raises(TypeError, match="no field 'xxx") as caught:
        keystep.SamplerSpec(**{"x" * 1_000_000: 1})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (0, 2**40), (2**28 + 1,), [2**14, 2**15]])
def test_noise_that_no_memory_should_hold(shape):
    with pytest.raises(keystep.ArgumentError, match=r"^shape\[.\]: expected an integer in 0\.\."):
        keystep.noise(shape, seed=1)
