"""Settings of expert iteration: what a file may say, and one error by key for the rest."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from expit_runs import FILE

import keystep
from keystep.data import DatasetError
from keystep.expit import ExpitConfig, expit, read_config
from keystep.expit.checks import check_settings
from keystep.expit.presets import EXPIT_PRESETS
from keystep.expit.reading import config_of, with_budget

Make = Callable[..., ExpitConfig]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (('preset = "tiny"', 'preset = "huge"'), "preset: expected one of small, paper, tiny, got 'huge'"),
        (("iterations = 2", 'iterations = "2"'), "iterations: expected a whole number, got '2'"),
        (("iterations = 2", "iterations = true"), "iterations: expected a whole number, got True"),
        (("iterations = 2", "iterations = -1"), "iterations: expected at least 0, got -1"),
        (("iterations = 2", "iteration = 2"), "iteration: expected one of .*did you mean iterations"),
        (("iterations = 2", "growth = -0.5"), "growth: expected a number at least 0, got -0.5"),
        (("iterations = 2", "finetune_planner = 0.0"), "finetune_planner: expected a number above 0"),
        (("iterations = 2", 'mode = "both"'), "mode: expected one of standard, ft, got 'both'"),
        (("subgoals = 4", "subgoal_count = 4"), "planner.subgoal_count: expected .*did you mean subgoal"),
        (("subgoals = 4", "subgoals = 4.5"), "planner.subgoals: expected a whole number, got 4.5"),
        (("subgoals = 4", "learning_rate = 0.0"), "planner.learning_rate: expected a positive number, got 0"),
        (("subgoals = 4", "seed = 4"), "planner.seed: expected one of"),
        (("subgoals = 4", 'kind = "act"'), "planner.kind: expected none"),
        (("subgoals = 4", "finetune = { steps = 3 }"), "planner.finetune.steps: expected none, as"),
        (("subgoals = 4", "finetune = 3"), "planner.finetune: expected a table, got 3"),
        (("subgoals = 4", "finetune = { rate = 3 }"), "planner.finetune.rate: expected one of"),
        (("subgoals = 4", "finetune = { subgoals = 5 }"), "planner.finetune.subgoals: expected none, as"),
        (("subgoals = 4", 'finetune = { normalization = ["min_max"] }'), "finetune.normalization: expected"),
        (("chunk_lengths = [2, 4]", "chunk_lengths = [2]"), "chunk_lengths: expected 2 values, got 1"),
        (("chunk_lengths = [2, 4]", 'kind = "rnn"'), "controller.kind: expected dp or act, got 'rnn'"),
        (("chunk_lengths = [2, 4]", 'preset = "act"'), "controller.preset: expected one of tiny, .*'act'"),
        (("collect = { episodes = 2 }", "collect = { episode = 2 }"), "demonstrations.collect.episode:"),
        (("collect = { episodes = 2 }", 'collect = { episodes = "2" }'),
         "demonstrations.collect.episodes: expected a whole number, got '2'"),
        (("collect = { episodes = 2 }", 'collect = { tasks = "Left" }'),
         "demonstrations.collect.tasks: expected a list, got 'Left'"),
        (("iterations = 2", "seed = 20261129"), "seed: expected at most [0-9]+, got 20261129"),
        (("iterations = 2", "workers = -1"), "workers: expected at least 0, got -1"),
        (("iterations = 2", 'without_success = "cry"'), "without_success: expected one of demonstrations, "),
        (("iterations = 2", "env_kwargs = { gravity = 0 }"), "env_kwargs: expected none beside demon"),
        (("[rollouts]", "[export]\ninference_steps = -5\n[rollouts]"), "export.inference_steps: expected"),
        (("[rollouts]", "[export]\nexecute = -1\n[rollouts]"), "export.execute: expected at least 1, got -1"),
        (("[rollouts]", "[evaluation]\nguidance = nan\n[rollouts]"), "evaluation.guidance: expected at lea"),
        (("[rollouts]", "[evaluation]\nmax_episode_steps = 0\n[rollouts]"), "evaluation.max_episode_steps:"),
        (("[rollouts]", "[evaluation]\nseed = 9223372036854775807\n[rollouts]"), "evaluation.seed: expected"),
        (('dataset = "d0"', "dataset = 7"), "demonstrations.dataset: expected a path, got 7"),
        (("reset_per_task = 1", "trials = 0"), "rollouts.trials: expected a whole number from 1, got 0"),
        (("reset_per_task = 1", "suite = 'x'"), "rollouts.suite: expected one of"),
        (("iterations = 2", "evaluation = 3"), "evaluation: expected a table, got 3"),
        (("iterations = 2", "iterations = "), "config: .*run.toml: expected TOML, got"),
    ],
)  # fmt: skip
def test_one_error_by_key(changed: tuple[str, str], message: str, make_config: Make) -> None:
    assert changed[0] in FILE
    with pytest.raises(keystep.ArgumentError, match=message):
        make_config(FILE.replace(*changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (('suite = "moon.suite"', 'suite = "nonsense"'), "suite: expected .* or a module with SUITE, got"),
        (('suite = "moon.suite"', 'suite = "moon.suite"\nenv = "nonsense"'), "env: .*nonsense"),
        (("[rollouts]", '[evaluation]\ntasks = ["Up"]\n[rollouts]'), "evaluation.tasks: expected some of"),
        (("[rollouts]", '[rollouts]\ntasks = ["Up"]'), "rollouts.tasks: expected some of Left, Right"),
        (("iterations = 2", 'iterations = 2\ncluster = "nonsense"'), "cluster: expected "),
        (("iterations = 2", 'iterations = 2\ncluster = "127.0.0.1:1"'), "cluster: expected "),
    ],
)  # fmt: skip
def test_refused_before_anything_is_created(
    changed: tuple[str, str], message: str, make_config: Make
) -> None:
    config = make_config(FILE.replace(*changed))
    with pytest.raises((keystep.ArgumentError, DatasetError), match=message):
        check_settings(config)
    with pytest.raises((keystep.ArgumentError, DatasetError), match=message):
        expit(config)
    assert not config.output.exists() and not config.dataset.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("[rollouts]", '[export]\nkind = "nonsense"\n[rollouts]'), "export: sampler.kind: expected "),
        (("[rollouts]", '[export]\nplanner_kind = "nonsense"\n[rollouts]'), "export: planner.sampler.kind: "),
        (("[rollouts]", "[export]\nexecute = 3\n[rollouts]"), "export: execute: expected 1..2"),
        (("[rollouts]", "[export]\ninference_steps = 5000\n[rollouts]"), "export: sampler.inference_steps: "),
        (("[planner]", '[planner]\ntask_weights = ["Up=2"]'), "planner: task_weights: expected"),
        (("[controller]", '[controller]\nnormalization = ["observation.none=min_max"]'), "controller: norm"),
        (("[controller]", '[controller]\ncameras = ["wrist"]'), "controller: "),
        (("[controller]", '[controller]\nobserve = "images"'), "controller: "),
    ],
)  # fmt: skip
def test_refused_before_anything_is_trained(
    changed: tuple[str, str], message: str, make_config: Make, d0: Path
) -> None:
    config = make_config(FILE.replace(*changed))
    with pytest.raises((keystep.ArgumentError, DatasetError), match=message):
        expit(config)
    assert not list(config.output.glob("iteration-0/*/training_state"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(keystep.ArgumentError, match="config: expected a TOML file, got"):
        read_config(tmp_path / "nowhere.toml")


def test_demonstrations_are_there_or_are_made(make_config: Make) -> None:
    text = FILE.replace("collect = { episodes = 2 }", "")
    assert not make_config(text).demonstrations.collect  # the preset's do not come in
    with pytest.raises(keystep.ArgumentError, match="demonstrations: expected a dataset, or the settings"):
        config_of({"output": "run"}, Path("/nowhere"))


def test_steps_follow_the_paper() -> None:
    paper = EXPIT_PRESETS["paper"]
    assert (paper["growth"], paper["finetune_planner"], paper["finetune_controller"]) == (0.5, 0.2, 0.1)
    assert (paper["planner"]["steps"], paper["controller"]["steps"]) == (100_000, 300_000)
    assert paper["rollouts"]["guidance"] == 3.0
    assert paper["evaluation"]["guidance"] == 5.0


def test_steps_of_iterations_and_of_a_budget(make_config: Make) -> None:
    config = make_config(mode="standard", iterations=3)
    assert [config.steps("planner", number) for number in range(4)] == [12, 18, 24, 30]
    tuned = replace(config, mode="ft")
    assert [tuned.steps("planner", number) for number in range(3)] == [12, 2, 2]
    assert [tuned.steps("controller", number) for number in range(3)] == [12, 1, 1]
    scaled = with_budget(config, 800)
    assert (scaled.steps("planner", 0), scaled.steps("controller", 0)) == (400, 400)
    assert "400 + 400, 600 + 600" in scaled.told_steps()
    with pytest.raises(keystep.ArgumentError, match="budget: expected at least 2 steps, got 1"):
        with_budget(config, 1)


def test_the_warm_up_keeps_its_share_of_shorter_trainings(make_config: Make) -> None:
    network = make_config().planner
    assert network.training.warmup_steps == 3
    assert network.of(4, True).warmup_steps == 1
    assert network.of(60, False).warmup_steps == 3


def test_what_fine_tuning_changes(make_config: Make) -> None:
    network = make_config(FILE.replace("subgoals = 4", "finetune = { learning_rate = 1e-5 }")).planner
    assert network.of(8, True).learning_rate == 1e-5
    assert network.of(8, False).learning_rate == 1e-4


def test_seeds_of_iterations_and_runs_differ(make_config: Make) -> None:
    configs = [make_config(seed=seed) for seed in range(3)]
    pairs = [(config, number) for config in configs for number in range(3)]
    assert len({config.training_seed(number) for config, number in pairs}) == 9
    assert len({config.rollout_settings(number).seed for config, number in pairs}) == 9


def test_every_preset_and_the_example_can_be_read(tmp_path: Path) -> None:
    for name in EXPIT_PRESETS:
        path = tmp_path / f"{name}.toml"
        path.write_text(f'output = "run"\npreset = "{name}"\n')
        if name != "paper":  # the fake rollouts have not all of its settings
            assert read_config(path).output == tmp_path / "run"
    example = Path(__file__).parents[2] / "examples" / "expit.toml"
    assert set(tomllib.loads(example.read_text())) >= {"output", "mode", "planner", "controller"}
