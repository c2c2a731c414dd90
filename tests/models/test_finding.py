"""What is where in a picture, and its tokens in words: by hand, and learned."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_writers import example, small  # noqa: E402

from keystep.code.told import SceneWords  # noqa: E402
from keystep.models.checks import ConfigError  # noqa: E402
from keystep.models.code_planner.config import OBJECT_SLOTS, CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.finding import (  # noqa: E402
    FOCUS,
    PLACE_WEIGHT,
    PRESENT,
    RARE,
    Finder,
    Found,
    FoundTokens,
)
from keystep.models.code_planner.network import CodePlanner, given  # noqa: E402

WORDS = {"red cube": (10, 11), "blue cube": (12, 11), "scale": (13,)}
NUMBERS = (20, 21, 22, 23, 24)
BOXES = torch.tensor([[[0.0, 0.0, 0.5, 0.25], [0.75, 0.9, 1.0, 1.1], [-1.0, -1.0, -1.0, -1.0]]])
NAMED = torch.tensor([[1, 0, -1]])
"""Centres at (0.25, 0.125), in column 1 and row 0 of a map of four by two, and at (0.875, 1), in its last."""


def finding(**changes: Any) -> CodePlannerConfig:
    return small(**{"names": WORDS, "numbers": NUMBERS, "image_tokens": 8, **changes})


def slow_loss(finder: Finder, cells: torch.Tensor, boxes: torch.Tensor, named: torch.Tensor) -> float:
    found = Found(*(part.detach().double() for part in finder(cells)))
    height, width = cells.shape[2:]
    grid = found.places.shape[-1] - 1
    wanted = torch.zeros(found.there.shape)
    what, where = [], []
    for picture in range(len(named)):
        for box, name in zip(boxes[picture].tolist(), named[picture].tolist(), strict=True):
            if name < 0:
                continue
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            cell = min(int(y * height), height - 1) * width + min(int(x * width), width - 1)
            wanted[picture, cell] = 1.0
            what.append(-found.names[picture, cell].log_softmax(-1)[name].item())
            for side, at in enumerate((round(x * grid), round(y * grid))):
                where.append(-found.places[picture, cell, side].log_softmax(-1)[at].item())
    whether = 0.0
    for logit, target in zip(found.there.flatten().tolist(), wanted.flatten().tolist(), strict=True):
        right = 1 / (1 + math.exp(-logit)) if target else 1 / (1 + math.exp(logit))
        whether -= (1 - right) ** FOCUS * math.log(right)
    return whether / len(what) + sum(what) / len(what) + PLACE_WEIGHT * sum(where) / len(where)


def test_the_loss_is_the_law_cell_by_cell() -> None:
    torch.manual_seed(0)
    finder, cells = Finder(8, WORDS, 5), torch.randn(2, 8, 2, 4)
    boxes, named = BOXES.repeat(2, 1, 1), torch.cat([NAMED, torch.tensor([[-1, 2, -1]])])
    assert finder.loss(cells, boxes, named).item() == pytest.approx(slow_loss(finder, cells, boxes, named))


def test_before_anything_is_learned_all_is_rare() -> None:
    found = Finder(8, WORDS, 5)(torch.zeros(1, 8, 2, 4))
    torch.testing.assert_close(found.there, torch.full((1, 8), RARE))
    assert found.names.shape == (1, 8, 3) and found.places.shape == (1, 8, 2, 5)


def test_names_share_what_is_known_of_their_words() -> None:
    torch.manual_seed(0)
    finder = Finder(8, WORDS, 5)
    with torch.no_grad():
        finder.word.bias.copy_(torch.tensor([1.0, 10.0, 100.0, 1000.0]))  # of the words 10, 11, 12, 13
    found = finder(torch.zeros(1, 8, 1, 1))
    torch.testing.assert_close(found.names[0, 0], torch.tensor([11.0, 110.0, 1000.0]))


def test_pictures_with_nothing_in_view_teach_that_nothing_is_there() -> None:
    finder, cells = Finder(8, WORDS, 5), torch.randn(2, 8, 2, 4)
    loss = finder.loss(cells, BOXES.repeat(2, 1, 1), torch.full((2, 3), -1))
    loss.backward()
    assert loss.item() > 0 and bool(finder.there.weight.grad.any()) and finder.word.weight.grad is None


def told(*objects: tuple[int, int, int, int], cells: int = 16, sure: float = 30.0) -> Found:
    """What shows objects, each (cell, name, column, row), without a doubt."""
    found = Found(torch.full((1, cells), -30.0), torch.zeros(1, cells, 3), torch.zeros(1, cells, 2, 5))
    for cell, name, column, row in objects:
        found.there[0, cell] = sure
        found.names[0, cell, name] = found.places[0, cell, 0, column] = found.places[0, cell, 1, row] = 90.0
    return found


def test_tokens_are_the_words_of_the_surest_objects_row_by_row() -> None:
    """Words of the name, column, row; a shorter name is filled up with the embedding of the pad."""
    torch.manual_seed(0)
    config = finding(observation=small(width=64).observation)
    tokens = FoundTokens(config)
    table = torch.randn(config.vocabulary, config.width)
    table[config.pad_id] = 0
    got = tokens(told((9, 0, 3, 2), (2, 2, 0, 4)), table)
    torch.testing.assert_close(got[0], table[[13, config.pad_id, 20, 24, 10, 11, 23, 22]])
    three = told((9, 0, 3, 2), (2, 2, 0, 4), (5, 1, 1, 1))
    three.there[0, 5] = 40.0
    three.there[0, 9] = 20.0
    torch.testing.assert_close(tokens(three, table)[0], table[[13, config.pad_id, 20, 24, 12, 11, 21, 21]])


def test_cells_with_nothing_in_them_come_last() -> None:
    config = finding(observation=small(width=64).observation)
    tokens, table = FoundTokens(config), torch.randn(config.vocabulary, config.width)
    found = told((9, 0, 3, 2))
    found.there[0, 2] = -5.0  # the second surest, before it in the picture
    got = tokens(found, table)[0]
    torch.testing.assert_close(got[:4], table[[10, 11, 23, 22]])
    torch.testing.assert_close(got[4:], tokens.nothing.expand(4, -1))


def test_what_is_unsure_is_told_by_halves_and_what_is_not_there_not() -> None:
    torch.manual_seed(0)
    config = finding()
    tokens, table = FoundTokens(config), torch.randn(config.vocabulary, config.width)
    objects = ((2, 0, 3, 2), (9, 1, 1, 1))
    half = tokens(told(*objects, sure=PRESENT), table)
    words = table[[10, 11, 23, 22, 12, 11, 21, 21]]
    torch.testing.assert_close(half[0], 0.5 * (words + tokens.nothing))
    none = tokens(told(*objects, sure=-20.0), table)
    torch.testing.assert_close(none[0], tokens.nothing.expand(8, -1))


def test_boxes_teach_what_is_where_and_replies_what_is_made_of_it() -> None:
    torch.manual_seed(0)
    planner = CodePlanner(finding())
    replies = example(planner.config, "go<proprioception><image>")
    boxes = {"pictures": replies["pictures"], "boxes": BOXES, "named": NAMED}
    sight = planner.sight
    missed = sight.finder.loss(sight.map(boxes["pictures"]), BOXES, NAMED)
    torch.testing.assert_close(planner.loss(boxes), missed)
    learned = []
    for batch in (boxes, replies):
        planner.zero_grad()
        planner.loss(batch).backward()
        learned.append({key for key, value in planner.named_parameters() if value.grad is not None})
        assert all(value.grad.any() for key, value in planner.named_parameters() if key in learned[-1])
    every = {key for key, _ in planner.named_parameters()}
    assert learned[0] == {key for key in every if key.startswith("sight.") and "tokens" not in key}
    assert learned[1] == every - learned[0]


def test_what_is_found_is_read_in_the_words_as_they_are_now() -> None:
    torch.manual_seed(0)
    planner = CodePlanner(finding()).eval()
    tokens, _, _, seen, felt = given(example(planner.config, "go<proprioception><image>"))
    before = planner.see(seen)
    with torch.no_grad():
        planner.decoder.embed_tokens.weight[20:25] += 1.0
    assert not torch.allclose(planner.see(seen), before)
    torch.testing.assert_close(planner.embed(tokens, seen, felt)[0, 3:11], planner.see(seen)[0])


def test_where_things_are_is_learned() -> None:
    """From a map that shows it: one channel for each name, at its place."""
    torch.manual_seed(0)
    finder = Finder(3, {"a": (1,), "b": (2,), "c": (3,)}, 5)
    optimizer = torch.optim.Adam(finder.parameters(), 0.1)
    for _ in range(200):
        named = torch.stack([torch.randperm(3) for _ in range(16)])
        at = torch.rand(16, 3, 2)
        boxes = torch.cat([at, at], dim=-1)
        cells = torch.zeros(16, 3, 4, 4)
        column, row = (at * 4).long().unbind(-1)
        picture = torch.arange(16)[:, None].expand(-1, 3)
        cells[picture, named, row, column] = 1.0
        loss = finder.loss(cells, boxes, named)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shown = torch.zeros(1, 3, 2, 2)
    shown[0, 2, 0, 1] = shown[0, 0, 1, 0] = 1.0
    found = finder(shown)
    assert (found.there[0] > 0).tolist() == [False, True, True, False]
    assert found.names[0, 1:3].argmax(-1).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"names": {}}, r"code_planner\.names: expected some, as there are numbers"),
        ({"numbers": ()}, r"code_planner\.numbers: expected two or more ids below \d+, as there are names"),
        ({"numbers": (20,)}, r"code_planner\.numbers: expected two or more ids"),
        ({"names": {"red cube": (10, 999)}}, r"code_planner\.names\['red cube'\]: expected ids below \d+"),
        ({"names": {"red cube": ()}}, r"code_planner\.names\['red cube'\]: expected ids"),
        ({"names": {"red cube": 10}}, r"code_planner\.names\['red cube'\]: expected ids"),
        ({"names": {"red cube": (True,)}}, r"code_planner\.names\['red cube'\]: expected ids"),
        ({"image_tokens": 6}, r"code_planner\.image_tokens: expected a multiple of 4 \(words of a name"),
        ({"image_tokens": 68}, r"code_planner\.image_tokens: expected at most 64 \(cells of the map\)"),
    ],
)
def test_words_that_cannot_be_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        finding(**changes)


def test_objects_have_no_words() -> None:
    with pytest.raises(
        ConfigError, match=r"code_planner\.names: expected none \(of an own network that sees"
    ):
        small("micro-state", names=WORDS, numbers=NUMBERS, image_tokens=OBJECT_SLOTS)


@pytest.mark.parametrize("key", ["names", "llava"])
@pytest.mark.parametrize("value", [[1], "red cube", None, 3])
def test_what_is_no_object_in_json_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^code_planner\.{key}: expected an object, got "):
        CodePlannerConfig.from_dict({**finding().to_dict(), key: value})


def test_words_come_back_from_json() -> None:
    config = finding()
    again = CodePlannerConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict() and again.tokens_of_an_object == 4
    assert CodePlanner(again).state_dict().keys() == CodePlanner(config).state_dict().keys()


def test_what_is_found_for_sure_is_what_a_told_scene_says() -> None:
    """Programs come with scenes in words: where a detector is sure the decoder is shown the same."""
    config = finding()
    assert config.picture is not None
    cells = tuple(side // 8 for side in config.picture.shape[:2])
    words = SceneWords(config.names, config.numbers, cells, 2, config.pad_id)
    boxes = torch.tensor([[0.6, 0.5, 0.9, 0.7], [0.1, 0.1, 0.4, 0.3]])
    names, grid = list(config.names), len(config.numbers) - 1
    torch.manual_seed(0)
    embeddings = torch.randn(config.vocabulary, config.width)
    count = cells[0] * cells[1]
    there, what = torch.full((1, count), -9.0), torch.zeros(1, count, len(names))
    where = torch.zeros(1, count, 2, grid + 1)
    for name, box in zip((2, 0), boxes.tolist(), strict=True):
        right, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        cell = int(down * cells[0]) * cells[1] + int(right * cells[1])
        there[0, cell], what[0, cell, name] = 9.0, 99.0
        where[0, cell, 0, round(right * grid)] = where[0, cell, 1, round(down * grid)] = 99.0
    shown = FoundTokens(config)(Found(there, what, where), embeddings)
    told = words.tell([names[2], names[0]], boxes.numpy(), None)
    torch.testing.assert_close(shown[0], embeddings[torch.tensor(told)])
