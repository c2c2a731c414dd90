"""Replies in plain PyTorch under a constraint: code, whatever the weights, in every way of writing."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import GRID, code_config, language  # noqa: E402

from keystep.code.constraint import Constraint  # noqa: E402
from keystep.code.grammar import parse  # noqa: E402
from keystep.code.tokenizer import Tokenizer  # noqa: E402
from keystep.code.trace import comment, uncommented  # noqa: E402
from keystep.models.code_planner.network import CodePlanner  # noqa: E402
from keystep.models.code_planner.writing import ReplyWriter  # noqa: E402

LIMIT = 40
WORDS = language().tokenizer
CONSTRAINT = Constraint(WORDS, GRID)


def planner(seed: int, **changes: Any) -> CodePlanner:
    """With large weights at the head, so that some tokens are far likelier than others."""
    torch.manual_seed(seed)
    found = CodePlanner(code_config("micro", **changes))
    with torch.no_grad():
        found.head.weight *= 30
    return found


def writer(seed: int, constraint: Constraint | None = CONSTRAINT, limit: int = LIMIT) -> ReplyWriter:
    return ReplyWriter(planner(seed), WORDS, limit, constraint=constraint)


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_write_code_in_every_way(seed: int) -> None:
    constrained = writer(seed)
    for text in ("Pick up the red cube", "x1", "Swap", "done()"):
        prompt = WORDS.encode(text)
        plain = constrained.write(prompt)
        code = uncommented(plain.text) if plain.text.startswith("#") else plain.text
        assert plain.ended and len(plain.ids) < LIMIT and parse(code)
        free = writer(seed, None).write(prompt)
        assert free.text != plain.text  # the constraint did it
        other = "pick(get_actor('red cube'))"
        for drafts in ([plain.text], [other, plain.text], [plain.text[:7] + other], [free.text]):
            drafted = constrained.write(prompt, way="draft", last=drafts[0], drafts=drafts[1:])
            assert (drafted.ids, drafted.ended) == (plain.ids, True)
            if drafts == [plain.text] and WORDS.encode(plain.text) == [*plain.ids]:
                assert drafted.passes == 1  # some spell a word that the table has
        early = constrained.write(prompt, way="early_stop", last=comment(other), early_stop=2)
        assert early.text == (comment(other) if plain.text.startswith("#") else plain.text)


@pytest.mark.parametrize("limit", [2, 3, 8])
def test_a_reply_ends_in_its_tokens(limit: int) -> None:
    for seed in range(3):
        found = writer(seed, limit=limit).write(WORDS.encode("Stack the cubes"))
        assert found.ended and len(found.ids) < limit and parse(found.text.removeprefix("# "))


def test_what_code_is_likeliest_anyway_is_written_as_before() -> None:
    """A planner whose head wants one reply, position by position."""
    wanted = [*WORDS.encode("# pick(get_actor('red cube'))"), WORDS.end]
    prompt = WORDS.encode("go")

    def raised(_module: object, _given: object, logits: torch.Tensor) -> torch.Tensor:
        rows = logits.new_zeros(logits.shape)
        for row in range(logits.shape[1]):
            rows[0, row, wanted[min(max(raised.first + row, 0), len(wanted) - 1)]] = 1e4
        return logits + rows

    for constraint in (None, CONSTRAINT):
        model = planner(0)
        writing = ReplyWriter(model, WORDS, LIMIT, keep=False, constraint=constraint)
        raised.first = 1 - len(prompt)
        model.head.register_forward_hook(raised)
        assert writing.write(prompt).ids == tuple(wanted[:-1])


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^limit: expected at least 2 tokens, got 1$"):
        writer(0, limit=1)
    spelt = Tokenizer(("red",))
    with pytest.raises(ValueError, match=r"^limit: expected at least 7 tokens, got 6$"):
        ReplyWriter(planner(0, vocabulary=len(spelt)), spelt, 6, constraint=Constraint(spelt, GRID))
