"""The symbolic world of CALVIN's chains, the public sampler's law, and files of chains."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import keystep
from keystep.suites.calvin import layout
from keystep.suites.calvin.rules import RULES, is_possible, is_start, kind, start_scenes
from keystep.suites.calvin.sequences import (
    PUBLIC_SHA256,
    SceneChain,
    chains_from,
    digest,
    draw_chains,
    read_chains,
    write_chains,
)
from keystep.suites.calvin.tasks import TASKS

SCENE = start_scenes()[0]
# What mees/calvin's get_sequences_for_state2((SCENE, 2, 0)) returns (fa03f01, run with numpy 2.4.6).
PUBLIC = [
    ("open_drawer", "turn_on_lightbulb", "move_slider_left", "rotate_red_block_left", "lift_red_block_table"),
    ("lift_red_block_table", "stack_block", "unstack_block", "open_drawer", "turn_on_led"),
]


def test_start_scenes() -> None:
    scenes = start_scenes()
    assert len(scenes) == 192 == len({tuple(scene.values()) for scene in scenes}) and all(
        map(is_start, scenes)
    )
    assert list(SCENE.values()) == [0, 0, "right", "closed", "table", "table", "slider_right", 0]


def test_every_task_is_possible_after_some_others() -> None:
    """From all starts on, four tasks deep."""
    scenes, met = {tuple(scene.items()) for scene in start_scenes()}, set()
    for _ in range(4):
        after = set()
        for scene in scenes:
            for task, rules in RULES.items():
                made = [now for rule in rules if (now := rule.apply(dict(scene))) is not None]
                met |= {task} if made else set()
                after |= {tuple(now.items()) for now in made}
        scenes = after - scenes
    assert met == set(TASKS)


def test_kinds() -> None:
    counts = Counter(map(kind, TASKS))
    assert sorted(counts.values()) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 12]
    assert kind("push_into_drawer") != kind("push_red_block_left") == kind("rotate_pink_block_right")


@pytest.mark.parametrize(
    ("chain", "possible"),
    [
        (PUBLIC[0], True),
        (("open_drawer", "close_drawer"), False),  # of one kind
        (("place_in_drawer",), False),  # nothing is held
        (("lift_red_block_table", "place_in_drawer"), False),  # which is closed
        (("open_drawer", "lift_red_block_table", "place_in_drawer", "lift_red_block_drawer"), True),
        (("lift_pink_block_slider", "stack_block"), False),  # on red or on blue
        (("lift_red_block_table", "turn_on_led"), False),  # with a full hand
    ],
)
def test_what_follows_what(chain: tuple[str, ...], possible: bool) -> None:
    assert is_possible(SCENE, chain) == possible


def test_chains_are_those_of_the_public_sampler() -> None:
    assert chains_from(SCENE, 2, seed=0) == PUBLIC


def test_few_chains_are_drawn_for_as_many_scenes() -> None:
    chains = draw_chains(3)
    assert {tuple(chain.scene.values()) for chain in chains} == {
        tuple(s.values()) for s in start_scenes()[:3]
    }
    assert all(is_possible(chain.scene, chain.tasks) for chain in chains)
    assert {len(chain.tasks) for chain in chains} == {layout.CHAIN_LENGTH}
    assert digest(chains) == digest(draw_chains(3)) != PUBLIC_SHA256


def test_files_of_chains(tmp_path: Path) -> None:
    chains = [SceneChain(SCENE, tasks) for tasks in PUBLIC]
    path = tmp_path / "chains.json"
    assert write_chains(path, chains) == digest(chains) == digest(read_chains(path))
    others = tmp_path / "others.json"
    turned = dict(reversed(list(SCENE.items())))  # the order of a file's keys is nothing
    others.write_text(json.dumps([[turned, list(tasks)] for tasks in PUBLIC]))
    assert read_chains(others) == chains and list(read_chains(others)[0].scene) == list(SCENE)
    assert digest(reversed(chains)) != digest(chains)


def change(*path: Any, to: Any) -> Any:
    def changed(value: Any) -> Any:
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return value

    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("version", to=2), "format: expected keystep-calvin-sequences version 1, got '.*' version 2"),
        (change("chains", to=[]), "chains: expected a list of chains"),
        (change("chains", 0, to=3), r"chains\[0\]: expected a scene and its tasks, got 3"),
        (change("chains", 0, "scene", "led", to=2), r"chains\[0\].scene.led: expected 0 or 1, got 2"),
        (change("chains", 0, "scene", "led", to=True), r"chains\[0\].scene.led: expected 0 or 1, got True"),
        (change("chains", 0, "scene", "led", to=[]), r"chains\[0\].scene.led: expected 0 or 1, got \[\]"),
        (change("chains", 0, "scene", "sun", to=1), r"chains\[0\].scene: expected led, lightbulb"),
        (change("chains", 0, "scene", to=1), r"chains\[0\].scene: expected led, lightbulb"),
        (
            change("chains", 1, "scene", "pink_block", to="table"),
            r"chains\[1\].scene: expected one or two blocks",
        ),
        (change("chains", 1, "tasks", to=[]), r"chains\[1\].tasks: expected a list of tasks, got \[\]"),
        (
            change("chains", 1, "tasks", 0, to="fly"),
            r"chains\[1\].tasks: expected tasks of CALVIN, got 'fly'",
        ),
        (change("chains", 1, "tasks", 0, to="stack_block"), r"expected tasks that follow each other"),
        (change("chains", 1, "tasks", to=["open_drawer"]), "sha256: expected .* of these chains, got"),
        (change("sha256", to="00"), "sha256: expected .* of these chains, got '00'"),
    ],
)
def test_files_that_are_none(tmp_path: Path, changed: Any, message: str) -> None:
    path = tmp_path / "chains.json"
    write_chains(path, [SceneChain(SCENE, tasks) for tasks in PUBLIC])
    path.write_text(json.dumps(changed(json.loads(path.read_text()))))
    with pytest.raises(keystep.ArgumentError, match=message):
        read_chains(path)


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"[]", b"\xff", b"null"])
def test_files_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chains.json"
    path.write_bytes(content)
    with pytest.raises(keystep.ArgumentError, match=r"chains.json: "):
        read_chains(path)
    with pytest.raises(keystep.ArgumentError, match="sequences: expected a file that can be read"):
        read_chains(tmp_path)
