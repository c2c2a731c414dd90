"""`keystep eval` in environments that are odd or wrong: they work, or one line says what is wrong."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from eval_runs import run
from other_envs import IMAGE, STATE, Plain
from stub_bundle import stub_manifest

import keystep
from keystep.commands.options import parse_env_kwargs
from keystep.evaluate import Evaluation, evaluate
from keystep.evaluate.environments import ObservationReader, make_env
from keystep.evaluate.simulation import reset_env, step_env
from keystep.features import Feature

STATE_KEY, IMAGE_KEY = "observation.state", "observation.images.static"


def raises(error):
    def method(self, *arguments, **options):
        raise error

    return method


def returns(value):
    return lambda self, *arguments, **options: value


def register(**members):
    """The id of a `Plain` with these members instead of its own."""
    gymnasium.registry.pop("Odd-v0", None)
    gymnasium.register("Odd-v0", entry_point=type("Odd", (Plain,), members))
    return "Odd-v0"


class Modes(Plain):
    def __init__(self, obs_mode, image_size=0):
        super().__init__()
        self.given = (obs_mode, image_size)


gymnasium.register("OddModes-v0", entry_point=Modes)


class Named(Plain):
    """A constructor whose parameters have the names of make_env's, and of gymnasium.make's."""

    def __init__(self, env_id=0, manifest=0, options=0, max_episode_steps=None, id=0, disable_env_checker=0):
        super().__init__()
        self.given = (env_id, manifest, options, max_episode_steps, id, disable_env_checker)


gymnasium.register("OddNamed-v3", entry_point=Named)


# ---- options of the constructor


@pytest.mark.parametrize("name", ["OddNamed-v3", "OddNamed"])
def test_a_constructor_gets_what_it_names(name):
    names = ("env_id", "manifest", "options", "max_episode_steps", "id", "disable_env_checker")
    options = {name: number for number, name in enumerate(names)}
    env = make_env(name, stub_manifest(), options)
    assert env.unwrapped.given == (0, 1, 2, 3, 4, 5)


VECTOR = Feature("observation.objects", "vector", (2,), names=("x", "y"))
DEPTH = Feature("observation.far", "depth", (8, 8))
SEEN = {entry["key"]: Feature.from_dict(entry) for entry in stub_manifest()["observation"]}


@pytest.mark.parametrize(
    ("features", "mode"),
    [
        ([SEEN[STATE_KEY]], ("state", 0)),
        ([SEEN[STATE_KEY], VECTOR], ("state", 0)),
        ([SEEN[STATE_KEY], SEEN[IMAGE_KEY]], ("rgb", 0)),
        ([SEEN[STATE_KEY], SEEN[IMAGE_KEY], VECTOR], ("state+rgb", 0)),
        ([DEPTH], ("rgb", 8)),
        ([DEPTH, VECTOR], ("state+rgb", 8)),
    ],
)
def test_what_a_policy_sees_is_the_mode(features, mode):
    manifest = {"observation": [feature.to_dict() for feature in features]}
    assert make_env("OddModes-v0", manifest).unwrapped.given == mode
    given = make_env("OddModes-v0", manifest, {"obs_mode": "none", "image_size": 5}).unwrapped.given
    assert given == ("none", 5)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["env_id=3"], "env_kwargs: expected parameters of OtherPlain-v0 (size, label), got an unexpected"),
        (["manifest=3"], "unexpected keyword argument 'manifest'"),
        (["id=3"], "unexpected keyword argument 'id'"),
        (["max_episode_steps=5"], "'max_episode_steps'; --max-episode-steps limits an episode"),
        (["{1: 2}"], "env_kwargs: expected names that are text, got 1"),
        (["{None: 2}"], "env_kwargs: expected names that are text, got None"),
        (["{1, 2}"], "env_kwargs: expected a JSON object"),
        (["[1, 2]"], "env_kwargs: expected NAME=VALUE or a JSON object"),
        (["size={1, 2}"], "env_kwargs: expected a value for size that JSON has, got {1, 2}"),
        (["size=b'1'"], "env_kwargs: expected a value for size"),
        (["size=NaN"], "env_kwargs: expected a value for size"),
    ],
)
def test_options_that_cannot_be(capsys, bundle, texts, words):
    options = ("--env", "other_envs:OtherPlain-v0", "--episodes", 1, "--env-kwargs", *texts)
    status, _, err = run(capsys, bundle, *options)
    assert status == 2 and words in err.splitlines()[-1] and "unexpected;" not in err


@pytest.mark.parametrize("options", [{1: 2}, [1], None, "size=1"])
def test_options_from_python(options):
    with pytest.raises(keystep.ArgumentError, match="env_kwargs: expected "):
        Evaluation("OtherPlain-v0", ("a",), env_kwargs=options)
    assert parse_env_kwargs(["size=(1, 2)"]) == {"size": (1, 2)}


def test_a_fault_inside_the_constructor_is_its_own():
    for error in (TypeError("a bad argument"), KeyError("x"), AssertionError()):
        with pytest.raises(
            keystep.ArgumentError, match="env: expected a constructor that works, got "
        ) as seen:
            make_env(register(__init__=raises(error)), stub_manifest())
        assert "env_kwargs" not in str(seen.value)


def test_an_entry_point_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "odd_broken.py").write_text("def :")
    monkeypatch.syspath_prepend(tmp_path)
    gymnasium.register("OddBroken-v0", entry_point="odd_broken:Env")
    with pytest.raises(
        keystep.ArgumentError, match="env: expected a constructor that works, got SyntaxError"
    ):
        make_env("OddBroken-v0", stub_manifest())


# ---- observations


@pytest.mark.parametrize(
    "state",
    [
        np.arange(4, dtype=np.uint8),
        np.arange(4, dtype=np.int64),
        np.array([True, False, True, False]),
        np.arange(4, dtype=np.float64),
        np.arange(4, dtype=np.float16),
        [0, 1, 2, 3],
        (0.0, 1, True, 3),
    ],
)
def test_a_state_is_converted(state):
    seen = ObservationReader(stub_manifest())({"state": state, "image": IMAGE})[STATE_KEY]
    assert seen.dtype == np.float32 and np.array_equal(seen, np.asarray(state, np.float32))


def test_a_state_of_integers_is_played(bundle):
    for state in (np.zeros(4, np.uint8), [0, 0, 0, 0]):
        name = register(observation=returns(state))
        with keystep.load(bundle, engine="stub") as policy:
            assert evaluate(policy, name, ["lift_red"], 1).tasks[0].successes == 1


@pytest.mark.parametrize(
    "state", ["text", ["a"] * 4, [[1], [1, 2]], np.ones(4, complex), None, [None] * 4, object(), {1, 2}]
)
def test_a_state_that_is_no_numbers(state):
    with pytest.raises(
        keystep.ArgumentError, match=r"observation\.state: expected an array of numbers, got "
    ):
        ObservationReader(stub_manifest())({"state": state, "image": IMAGE})


@pytest.mark.parametrize("image", [IMAGE.astype(np.float32), IMAGE.astype(int), "x", None, [[1], [1, 2]]])
def test_an_image_is_uint8(image):
    with pytest.raises(keystep.ArgumentError, match=rf"{IMAGE_KEY}: expected an array of uint8, got "):
        ObservationReader(stub_manifest())({"state": STATE, "image": image})


@pytest.mark.parametrize("observation", [None, 3, (STATE, IMAGE), [[1], [1, 2]], "text"])
def test_an_observation_that_is_no_dict(observation):
    with pytest.raises(keystep.ArgumentError, match="observation: expected a dict with "):
        ObservationReader(stub_manifest())(observation)


def test_tensors():
    torch = pytest.importorskip("torch")
    read = ObservationReader(stub_manifest())
    assert read({"state": torch.ones(4).double(), "image": IMAGE})[STATE_KEY].dtype == np.float32
    with pytest.raises(keystep.ArgumentError, match="expected an array of numbers, got Tensor that is no"):
        read({"state": torch.ones(4, requires_grad=True), "image": IMAGE})


# ---- calls


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"reset": returns(STATE)}, "env: expected reset to return (observation, info), got ndarray"),
        (
            {"reset": returns((STATE, STATE))},
            "env: expected reset to return an info that is a dict, got ndarray",
        ),
        ({"reset": lambda self: (STATE, {})}, "env: expected a reset that works, got TypeError: "),
        ({"reset": raises(OSError("no robot"))}, "env: expected a reset that works, got OSError: no robot"),
        ({"step": returns((STATE, 0.0, False, {}))}, "terminated, truncated, info), got 4 values"),
        ({"step": returns(None)}, "info), got NoneType"),
        (
            {"step": raises(ZeroDivisionError("by 0"))},
            "env: expected a step that works, got ZeroDivisionError",
        ),
        ({"step": raises(AssertionError())}, "env: expected a step that works, got AssertionError"),
        ({"info": returns([1])}, "env: expected step to return an info that is a dict, got list"),
        ({"info": returns({"success": [[1], [1, 2]]})}, "info['success']: expected true or false"),
        ({"ends": returns(("no", False))}, "terminated: expected true or false, got 'no'"),
        ({"ends": returns((False, np.zeros(2)))}, "truncated: expected true or false"),
        ({"close": raises(OSError("stuck"))}, "env: expected a close that works, got OSError: stuck"),
        (
            {"action_space": gymnasium.spaces.Box(0, 9, (3,), np.uint8)},
            "env: expected actions that are float",
        ),
        (
            {"action_space": gymnasium.spaces.Box(-1, 1, (3, 1))},
            "env: expected actions of the policy's shape",
        ),
        (
            {"action_space": gymnasium.spaces.MultiDiscrete([2, 2, 2])},
            "env: expected actions of the policy's",
        ),
        ({"action_space": property(raises(AttributeError("none")))}, "env: expected an action space, got"),
    ],
)
def test_faults_of_environments_are_one_line(capsys, bundle, members, words):
    status, _, err = run(capsys, bundle, "--env", register(**members), "--episodes", 1)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("error: ") and words in last, last
    assert "unexpected;" not in err and "Traceback" not in err


def test_flags_as_numpy_has_them_and_no_info():
    for flag in (np.bool_(True), np.array([True]), 1):
        name = register(ends=returns((flag, np.zeros(1, bool))), info=returns(None))
        env = make_env(name, stub_manifest())
        reset_env(env, 1, None)
        assert step_env(env, np.zeros(3, np.float32))[1:] == (True, False, {})


def test_an_environment_without_any_info(capsys, bundle):
    name = register(info=returns(None))
    status, _, err = run(capsys, bundle, "--env", name, "--episodes", 1)
    assert status == 2 and "in info, got an empty info" in err
    status, _, err = run(capsys, bundle, "--env", name, "--episodes", 1, "--success-key", "terminated")
    assert status == 0, err
