"""Planners whose sight is known are asked what they see, in packed rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="training packages are not installed")
pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import torch
from code_checkpoints import GRID, code_config, language
from torch import Tensor, nn

from keystep.code.packing import Target
from keystep.code.prompt import PAPER, Prompt
from keystep.code.questions import Question, questions
from keystep.code.samples import SampleMaker
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.writing import ReplyWriter
from keystep.train.code_sight import SightQuestion, _spans, ask_sight
from keystep.train.sight_metrics import sight_metrics

SPOKEN = language()
WORDS = SPOKEN.tokenizer
COLOURS, SHAPES = ("red", "blue", "green", "white"), ("cube", "cylinder", "triangle", "hexagon")
SIDE = 16


class Scene:
    """Two things of unlike names, 10 cells apart or more."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        colours, shapes = (rng.choice(some, size=2, replace=False) for some in (COLOURS, SHAPES))
        self.names = [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]
        first = (int(rng.integers(1, 9)), int(rng.integers(1, 32)))
        self.cells = [first, (first[0] + 20, int(rng.integers(1, 32)))]

    def questions(self, rng: np.random.Generator) -> list[Question]:
        centres = np.array(self.cells) / GRID
        boxes = np.concatenate([centres - 0.001, centres + 0.001], axis=1)
        names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        return questions(self.names, boxes, rng, names, GRID)

    def picture(self, number: int) -> Tensor:
        """All of one brightness, which says which scene it is."""
        return torch.full((3, SIDE, SIDE), float(number))


SCENES = [Scene(number) for number in range(14)]


class Reader(nn.Module):
    """Knows the scene by its picture, and takes from it what it `reads`; the rest is always one guess."""

    def __init__(self, reads: set[str]) -> None:
        super().__init__()
        self.reads, self.config, self.head = reads, code_config("micro"), nn.Identity()
        self.shown: list[Tensor] = []

    def hidden(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, seen: Tensor, felt: Tensor | None
    ) -> Tensor:
        self.shown.append(seen)
        row, images, each = tokens[0].tolist(), 0, self.config.image_tokens
        scene = {}  # by place of an image token its picture's brightness
        for place, token in enumerate(row):
            if token == WORDS.image:
                scene[place] = float(seen[images // each].mean())
                images += 1
        logits = torch.zeros(1, len(row), self.config.vocabulary)
        for place, token in enumerate(row):
            before = torch.nonzero(mask[0, place])[:, 0]
            before = before[positions[0, before].argsort()].tolist()
            last = max((number for number, one in enumerate(before) if one in scene), default=None)
            if last is None or token == WORDS.end:
                continue
            brightness, after = scene[before[last]], [row[one] for one in before[last + 1 :]]
            line, end, _ = WORDS.decode(after).partition("\n")
            if end:
                answer = [*WORDS.encode(self.answer(line, brightness)), WORDS.end]
                written = len(after) - 1 - len(WORDS.encode(line))
                logits[0, place, answer[min(written, len(answer) - 1)]] = 5.0
        return logits

    def answer(self, question: str, brightness: float) -> str:
        scene = SCENES[int(brightness)] if brightness in range(len(SCENES)) else None
        if question.startswith("What is at "):
            place = question.removeprefix("What is at ").removesuffix("?")
            names = dict(zip(map(str, scene.cells), scene.names, strict=True)) if scene else {}
            colour, shape = names.get(place, "red cube").split()
            colour = colour if "colour" in self.reads else "red"
            return f"A {colour} {shape if 'shape' in self.reads else 'cube'} is at {place}."
        if question.startswith("Where is the "):
            name = question.removeprefix("Where is the ").removesuffix("?")
            cells = dict(zip(scene.names, scene.cells, strict=True)) if scene else {}
            return f"The {name} is at {cells.get(name, (9, 9)) if 'cell' in self.reads else (9, 9)}."
        if question.startswith("What is visible"):
            return self.everything(scene, question.endswith("in order?"))
        return "Yes."

    def everything(self, scene: Any, in_order: bool) -> str:
        """As it is asked for: by name, or row by row."""
        things = (
            zip(scene.names, scene.cells, strict=True) if scene and self.reads else [("red cube", (9, 9))]
        )
        told = []
        for name, cell in sorted(things, key=(lambda thing: thing[1][::-1]) if in_order else None):
            colour, shape = name.split()
            colour = colour if "colour" in self.reads else "red"
            shape = shape if "shape" in self.reads else "cube"
            told.append(f"a {colour} {shape} is at {cell if 'cell' in self.reads else (9, 9)}")
        return f"A{' and '.join(told)[1:]}."


def about(number: int, one: Question, maker: SampleMaker, memory: tuple[str, ...] = ()) -> SightQuestion:
    prompt = Prompt("Look", memory, question=one.question)
    sample = maker.sample(prompt, one.answer, Target.ANSWER, number, 0)
    return SightQuestion(one.kind, number, one.answer, sample)


def asked(*kinds: str) -> list[SightQuestion]:
    """All questions about all scenes, of all kinds or of some."""
    maker, rng = SPOKEN.maker(code_config("micro")), np.random.default_rng(0)
    found = [(number, one) for number, scene in enumerate(SCENES) for one in scene.questions(rng)]
    return [about(number, one, maker) for number, one in found if not kinds or one.kind in kinds]


def shown(places: Any) -> dict[str, Tensor]:
    found = [SCENES[number].picture(number) for section, number, _ in places if section == "image"]
    return {"pictures": torch.stack(found), "proprioception": torch.zeros(len(found), 16)}


@pytest.mark.parametrize(
    ("reads", "better", "likelier", "parts"),
    [
        ({"colour"}, {"what"}, {"scene"}, "Parts: seen: colour; no better than blind: cell, shape."),
        ({"shape"}, {"what"}, {"scene"}, "Parts: seen: shape; no better than blind: cell, colour."),
        ({"cell"}, {"where", "scene"}, set(), "Parts: seen: cell; no better than blind: colour, shape."),
        (set(), set(), set(), "Parts: no better than blind: cell, colour, shape."),
        ({"cell", "colour", "shape"}, {"where", "what", "scene"}, set(), "Parts: seen: cell, colour, shape."),
    ],
    ids=["colour", "shape", "cell", "nothing", "everything"],
)
def test_what_a_planner_reads_and_what_it_guesses(reads: set, better: set, likelier: set, parts: str) -> None:
    planner: Any = Reader(reads)
    found = sight_metrics(ask_sight(planner, WORDS, asked(), shown, 500))
    kinds = found["kinds"]
    assert set(kinds) == {"where", "what", "is_at", "visible", "count", "scene"} and found["episodes"] == 14
    for part, (kind, name) in {
        "cell": ("where", "cell_exact"), "colour": ("what", "colour"), "shape": ("what", "shape"),
    }.items():  # fmt: skip
        figure = kinds[kind][name]
        assert figure["seen_of"] == figure["blind_of"] == 28  # two things in each scene
        assert (figure["seen"] == 1.0) == (part in reads) and figure["blind"] < 0.5
        assert (figure["interval"][0] > 0) == (part in reads)
        if part not in reads:
            assert figure["difference"] == 0
    assert found["told"][1] == parts
    if better:
        assert found["told"][0].startswith("Pictures matter")
        same = [kind for kind in kinds if kind not in better | likelier]
        assert found["told"][0].endswith(f"they change nothing about: {', '.join(same)}.")
    else:
        assert found["told"][0].startswith("Pictures change nothing")


def test_every_byte_of_a_character_belongs_to_it() -> None:
    for name in "größe", "a ☃ cube", "😀", "red cube":
        ids = [*WORDS.encode(name), WORDS.end]
        *spans, end = _spans(WORDS, ids)
        assert end == (len(name), len(name))
        sizes = [sum(start <= place < stop for start, stop in spans) for place in range(len(name))]
        assert [size for size, one in zip(sizes, name, strict=True) if not one.isascii()] == [
            len(one.encode()) for one in name if not one.isascii()
        ]
        assert all(start < stop for start, stop in spans) and 0 not in sizes


def test_blind_is_the_mean_of_the_pictures_asked_about() -> None:
    planner: Any = Reader(set())
    ask_sight(planner, WORDS, asked("count"), shown, 300)
    own, blind = planner.shown[0::2], planner.shown[1::2]
    assert len(own) == len(blind) > 1
    assert {float(value) for seen in own for value in seen.flatten(1)[:, 0]} == set(range(14))
    for seen, without in zip(own, blind, strict=True):
        torch.testing.assert_close(without, torch.full_like(seen, 6.5))


def test_blind_to_objects_is_the_mean_of_those_that_are_there() -> None:
    def objects(places: Any) -> dict[str, Tensor]:
        found = torch.zeros(sum(one[0] == "image" for one in places), 2, 3)
        for row, number in enumerate(number for section, number, _ in places if section == "image"):
            found[row, 0] = torch.tensor([1.0, number, 1.0])  # always there
            found[row, 1] = torch.tensor([float(number < 3), 7.0 if number < 3 else 99.0, 0.0])
        return {"objects": found, "proprioception": torch.zeros(len(found), 16)}

    planner: Any = Reader(set())
    ask_sight(planner, WORDS, asked("count"), objects, 10_000)
    (_, blind) = planner.shown
    assert len(blind) == 14
    torch.testing.assert_close(blind[0], torch.tensor([[1.0, 6.5, 1.0], [3 / 14, 7.0, 0.0]]))


@pytest.mark.parametrize("layout", ["ours", "paper"])
def test_packed_questions_are_answered_as_alone(layout: str) -> None:
    spoken = SPOKEN if layout == "ours" else language(PAPER)
    config = code_config("micro", spoken)
    torch.manual_seed(0)
    planner = CodePlanner(config).eval()
    with torch.no_grad():
        for weight in planner.parameters():
            weight.mul_(3)
    maker, rng = spoken.maker(config), np.random.default_rng(1)
    side = config.picture.shape[0] if config.picture else 0
    pictures = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    felt = torch.randn(3, config.proprioception.shape[0] if config.proprioception else 1)

    def here(places: Any) -> dict[str, Tensor]:
        numbers: dict[str, list[int]] = {"image": [], "proprioception": []}
        for section, number, _ in places:
            numbers[section].append(number)
        return {"pictures": pictures[numbers["image"]], "proprioception": felt[numbers["proprioception"]]}

    some = []
    for number in range(3):
        found = SCENES[number].questions(rng)
        some += [about(number, one, maker, ("done()",)) for one in found]
        # Not asked for, it stands right behind the picture, which questions share.
        code, prompt = f"move3d(get_actor('{SCENES[number].names[0]}'))", Prompt("Look", ("done()",))
        sample = maker.sample(prompt, code, Target.KEYSTEP, number, 0)
        some.append(SightQuestion("keystep", number, code, sample))
    packed, alone = (ask_sight(planner, WORDS, some, here, most) for most in (800, 1))
    assert len(packed) == len(alone) == len(some)
    writer = ReplyWriter(planner, WORDS, limit=1)
    differ = 0
    for question, one, other in zip(some, packed, alone, strict=True):
        assert (one.wanted, one.spans, one.seen.texts) == (question.wanted, other.spans, other.seen.texts)
        for side_of, side_alone in ((one.seen, other.seen), (one.blind, other.blind)):
            np.testing.assert_allclose(side_of.likelihoods, side_alone.likelihoods, atol=1e-3)
        prompt = [token for chunk in question.sample[:-1] for token in chunk.tokens]
        number = question.episode
        own = felt[number : number + 1] if layout == "ours" else None
        written = writer.write(prompt, pictures[number : number + 1], own)
        assert one.seen.texts[0] == written.text
        assert "".join(one.wanted[start:stop] for start, stop in one.spans) == one.wanted
        differ += one.seen.likelihoods != one.blind.likelihoods
    assert differ == len(some)
