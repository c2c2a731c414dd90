"""Packing: a row gives every token of every sample what it sees alone, at its place, with its target."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.packing import NO_TARGET, Chunk, PackedRow, RowBuilder, Target, batch, pack, together


@st.composite
def samples_of(draw) -> list[list[Chunk]]:
    """Samples of several episodes: what they begin with is in part the same; replies are all different."""
    found = []
    for number in range(draw(st.integers(1, 8))):
        episode = draw(st.integers(0, 2))
        chunks = [
            Chunk((episode, place), tuple(range(10 * place + 1, 10 * place + 2 + (episode + place) % 3)))
            for place in range(draw(st.integers(1, 4)))
        ]
        chunks.append(Chunk(("image", number), (99, 99), shown=number))
        length = draw(st.integers(1, 4))
        reply = tuple(draw(st.lists(st.integers(50, 60), min_size=length, max_size=length)))
        weights = tuple(draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=length, max_size=length)))
        found.append([*chunks, Chunk(("reply", number), reply, weights, Target.KEYSTEP)])
    return found


def alone(sample: list[Chunk]) -> dict[str, np.ndarray]:
    """The slow, clear reference: a sample as a sequence of its own, causal, and the target of each token."""
    tokens = [token for chunk in sample for token in chunk.tokens]
    weights = [weight for chunk in sample for weight in chunk.weights or (0.0,) * len(chunk.tokens)]
    targets = [*tokens[1:], NO_TARGET]
    following = [*weights[1:], 0.0]
    targets = [token if weight else NO_TARGET for token, weight in zip(targets, following, strict=True)]
    return {
        "tokens": np.array(tokens),
        "positions": np.arange(len(tokens)),
        "targets": np.array(targets),
        "weights": np.array(following, np.float32),
    }


def path(row: PackedRow, last: int) -> np.ndarray:
    """What the token at `last` sees, in the order of positions."""
    seen = np.flatnonzero(row.mask[last])
    return seen[np.argsort(row.positions[seen], kind="stable")]


def ends(row: PackedRow, sample: list[Chunk]) -> list[int]:
    """Where in the row a path of exactly the sample's tokens ends."""
    wanted = alone(sample)["tokens"]
    found = []
    for last in range(len(row)):
        seen = path(row, last)
        if len(seen) == len(wanted) and (row.tokens[seen] == wanted).all():
            found.append(last)
    return found


def check(row: PackedRow, samples: list[list[Chunk]]) -> None:
    wanted_loss = sum(float(alone(sample)["weights"].sum()) for sample in samples)
    assert float(row.weights.sum()) == pytest.approx(wanted_loss)
    for sample in samples:
        reference, same = alone(sample), []
        for last in ends(row, sample):
            seen = path(row, last)
            np.testing.assert_array_equal(row.positions[seen], reference["positions"])
            for place, index in enumerate(seen):  # each sees what is before it in the sample, itself included
                np.testing.assert_array_equal(path(row, index), seen[: place + 1])
            own = reference["weights"] > 0
            same.append(
                bool((row.targets[seen][own] == reference["targets"][own]).all())
                and bool((row.weights[seen][own] == reference["weights"][own]).all())
            )
        assert any(same), "the sample is in the row, with its targets"


@given(samples_of())
@settings(max_examples=80, deadline=None)
def test_a_row_gives_what_its_samples_give_alone(samples: list[list[Chunk]]) -> None:
    (row,) = pack(samples, max_tokens=10_000)
    check(row, samples)
    chunks = {
        tuple(chunk.key for chunk in sample[: count + 1])
        for sample in samples
        for count in range(len(sample))
    }
    assert len(np.unique(row.segments)) == len(chunks), "what is the same stands once"
    assert row.shown == tuple(range(len(samples))) and (row.tokens == 99).sum() == 2 * len(samples)
    assert ((row.targets == NO_TARGET) == (row.weights == 0)).all()
    assert ((row.targets == NO_TARGET) == (row.kinds == Target.NONE)).all()


@given(samples_of(), st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_rows_are_as_long_as_they_may_be_and_lose_no_sample(samples: list, longest: int) -> None:
    rows = list(pack(samples, longest))
    assert all(0 < len(row) <= longest for row in rows)
    assert [one for row in rows for one in row.shown] == list(range(len(samples)))
    start = 0
    for number, row in enumerate(rows):
        count = len(row.shown)
        check(row, samples[start : start + count])
        start += count
        if number + 1 < len(rows):
            builder = RowBuilder()
            for sample in samples[start - count : start]:
                builder.add(sample)
            assert len(row) + builder.growth(samples[start]) > longest


def stands(part: PackedRow, row: PackedRow, start: int) -> bool:
    """That a row is a part of another one, in which nobody else sees it, or is seen by it."""
    here = slice(start, start + len(part))
    if len(row.tokens[here]) < len(part):
        return False
    names = ("tokens", "positions", "targets", "weights", "kinds")
    same = all(np.array_equal(getattr(row, name)[here], getattr(part, name)) for name in names)
    others = row.mask[here].sum() + row.mask[:, here].sum() - 2 * part.mask.sum()
    return same and np.array_equal(row.mask[here, here], part.mask) and not others


@given(st.lists(samples_of(), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_rows_behind_each_other_are_the_rows_alone(groups: list) -> None:
    rows = [next(pack(samples, 10_000)) for samples in groups]
    longest = max(map(len, rows)) + 10
    found = together(rows, longest)
    assert all(len(row) <= longest for row in found) and sum(map(len, found)) == sum(map(len, rows))
    assert sorted(one for row in found for one in row.shown) == sorted(
        one for row in rows for one in row.shown
    )
    left = sorted(rows, key=len, reverse=True)
    for row in found:
        start = 0
        while start < len(row):
            part = next(one for one in left if stands(one, row, start))
            left = [one for one in left if one is not part]
            start += len(part)
    assert not left, "every row is there"
    with pytest.raises(ValueError, match="row: expected at most 1 tokens, got"):
        together([max(rows, key=len)], 1)


def test_a_batch_is_padded_and_pads_see_themselves_alone() -> None:
    samples = [[Chunk("a", (5, 6)), Chunk("b", (7,), (1.0,), Target.ANSWER)], [Chunk("c", (8,))]]
    rows = [next(pack([sample], 9)) for sample in samples]
    found = batch(rows, pad=0)
    assert found["tokens"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert found["positions"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert found["targets"].tolist() == [[NO_TARGET, 7, NO_TARGET], [NO_TARGET] * 3]
    assert set(found) == {"tokens", "positions", "targets", "weights", "mask", "shown"}
    assert found["mask"].astype(int).tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
    assert found["tokens"].dtype == np.int64 and found["weights"].dtype == np.float32
    with pytest.raises(ValueError, match="rows: expected at least one, got none"):
        batch([])


def test_what_cannot_be_packed_is_refused() -> None:
    prefix = Chunk("a", (1, 2))
    replies = [Chunk(("r", number), (number,), (1.0,)) for number in (3, 4)]
    with pytest.raises(ValueError, match="targets: expected one after a token, got another in"):
        list(pack([[prefix, reply] for reply in replies], 99))
    with pytest.raises(ValueError, match="targets: expected a token before them, got none in"):
        list(pack([replies[:1]], 99))
    with pytest.raises(ValueError, match="sample: expected at most 2 tokens, got 3"):
        list(pack([[prefix, replies[0]]], 2))
    with pytest.raises(ValueError, match=r"sample: expected .* at key 'a', got"):
        list(pack([[prefix], [Chunk("a", (1, 3))]], 99))
    with pytest.raises(ValueError, match="tokens: expected at least one, got none in 'x'"):
        Chunk("x", ())
    with pytest.raises(ValueError, match="weights: expected 1, got 2 in 'x'"):
        Chunk("x", (1,), (1.0, 1.0))
