"""The network of planners that write: shapes, packing, caches, gradients, checks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_writers import Characters, example, looks, random_planner, small  # noqa: E402
from transformers import DynamicCache  # noqa: E402

from keystep.code import packing  # noqa: E402
from keystep.code.packing import Chunk, pack  # noqa: E402
from keystep.models.code_planner.config import CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.network import NO_LOSS, CodePlanner, given, rewind  # noqa: E402
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS  # noqa: E402
from keystep.models.observing import camera_feature, state_feature  # noqa: E402

NAMES = ["micro", "micro-state"]


def parameters(model: torch.nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def test_sizes() -> None:
    assert 4.5e6 < parameters(CodePlanner(CODE_PLANNER_PRESETS["tiny"])) < 5.5e6
    assert parameters(CodePlanner(CODE_PLANNER_PRESETS["state"])) < 4.5e6
    without = small(observation=(camera_feature("base", 32, 32),))
    assert CodePlanner(without).proprioception is None


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48), (224, 224)])
def test_the_size_of_a_picture_is_a_setting(height: int, width: int) -> None:
    config = small(observation=(camera_feature("base", height, width), state_feature(5)))
    batch = example(config, "go<proprioception><image>")
    logits = CodePlanner(config)(*given(batch))
    assert logits.shape == (1, batch["tokens"].shape[1], config.vocabulary)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = random_planner(name).train()
    batch = example(model.config, "go<proprioception><image>")
    if model.config.objects:  # of both kinds
        batch["objects"][0, :2, 0] = torch.tensor([0.0, 1.0])
    model.loss(batch).backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_what_fills_a_row_up_is_finite_and_teaches_nothing(name: str) -> None:
    """A pad sees itself alone: rows that see nothing are NaN or not, by kernel (openvino #31630)."""
    model = random_planner(name).train()
    samples = [[Chunk("a", (5,)), Chunk("c", (6, 7), (1, 1))], [Chunk("b", (8,) * 9)]]
    rows = [row for sample in samples for row in pack([sample], 9)]
    found = packing.batch(rows, model.config.pad_id)
    names = ("tokens", "positions", "mask", "targets", "weights")
    one = {key: torch.from_numpy(found[key]) for key in names}
    one["weights"] = one["weights"].float()
    assert one["mask"].any(dim=-1).all() and not one["mask"][0, 3:, :3].any()
    assert model(*given(one)).isfinite().all()
    model.loss(one).backward()
    grads = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert grads and all(grad.isfinite().all() for grad in grads.values())
    model.zero_grad()
    model.loss({key: value[:1, ..., :3] for key, value in one.items() if key != "mask"}
               | {"mask": one["mask"][:1, :3, :3]}).backward()  # fmt: skip
    for key, value in model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(value.grad, grads[key], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_sees_and_feels_matters_and_what_it_does_not_attend_to_does_not(name: str) -> None:
    model = random_planner(name)
    batch = example(model.config, "go<proprioception><image>")
    tokens, positions, mask, seen, felt = given(batch)
    other, touched = looks(model.config, 1, 1)
    plain = model(tokens, positions, mask, seen, felt)[:, -1]
    assert not torch.allclose(plain, model(tokens, positions, mask, other, felt)[:, -1], atol=1e-5)
    assert not torch.allclose(plain, model(tokens, positions, mask, seen, touched)[:, -1], atol=1e-5)
    mask = mask.clone()
    mask[:, :, 2 : 3 + model.config.image_tokens] &= torch.eye(mask.shape[-1], dtype=torch.bool)[
        :, 2 : 3 + model.config.image_tokens
    ]
    blind = model(tokens, positions, mask, seen, felt)[:, -1]
    torch.testing.assert_close(blind, model(tokens, positions, mask, other, touched)[:, -1])


def test_an_empty_slot_shows_nothing() -> None:
    model = random_planner("micro-state")
    seen, _ = looks(model.config, 1, 0)
    seen[0, 3, 0] = 0
    changed = seen.clone()
    changed[0, 3, 1:] = 7.0
    torch.testing.assert_close(model.sight(seen), model.sight(changed))
    changed[0, 3, 0] = 1
    assert not torch.allclose(model.sight(seen), model.sight(changed))


# ---- packing and caching ----------------------------------------------------------------------------------


def packed(config: CodePlannerConfig) -> tuple[dict, list[tuple[slice, dict]]]:
    """Two steps of an episode behind one trunk, the second seeing more of it; and each alone.

    The trunk is a task and a memory of two key-steps; step 0 branches off after the first of them.
    """
    words = Characters(config.image_tokens)
    trunk = words.encode("stack\npick(a)\nplace(b)")
    row, positions, targets = list(trunk), list(range(len(trunk))), [NO_LOSS] * len(trunk)
    mask = torch.zeros(300, 300, dtype=torch.bool)
    mask[: len(trunk), : len(trunk)] = torch.ones(len(trunk), len(trunk), dtype=torch.bool).tril()
    steps = (("stack\npick(a)", "#pick(a)"), ("stack\npick(a)\nplace(b)", "done()"))
    look, alone = looks(config, 2, 5), []
    for step, (before, reply) in enumerate(steps):
        end, branch = len(before), words.encode(f"<proprioception><image>{reply}")
        first, answer = len(row), [*words.encode(reply), config.end_id]
        place = slice(first, first + len(branch))
        row += branch
        positions += range(end, end + len(branch))
        targets += [NO_LOSS] * (len(branch) - len(answer) + 1) + answer[1:]
        targets[first + config.image_tokens] = answer[0]
        mask[place, :end] = True
        mask[place, place] = torch.ones(len(branch), len(branch), dtype=torch.bool).tril()
        here = [value[step : step + 1] for value in look]
        alone.append((place, sequence(config, trunk[:end] + branch, here)))
    rows = sequence(config, row, look)
    count = len(row)
    rows |= {"positions": torch.tensor([positions]), "mask": mask[None, :count, :count]}
    return rows | {"targets": torch.tensor([targets]), "weights": torch.ones(1, count)}, alone


def sequence(config: CodePlannerConfig, tokens: list[int], look: Sequence[torch.Tensor]) -> dict:
    """One row of tokens, each seeing those before it."""
    count = len(tokens)
    return {
        "tokens": torch.tensor([tokens]),
        "positions": torch.arange(count)[None],
        "mask": torch.ones(1, count, count, dtype=torch.bool).tril(),
        "pictures" if config.picture else "objects": look[0],
        "proprioception": look[1],
    }


@pytest.mark.parametrize("name", NAMES)
def test_packed_steps_are_each_step_alone(name: str) -> None:
    model = random_planner(name)
    rows, alone = packed(model.config)
    logits = model(*given(rows))
    for place, batch in alone:
        single = model(*given(batch))
        torch.testing.assert_close(
            logits[:, place], single[:, -(place.stop - place.start) :], atol=1e-5, rtol=1e-4
        )


def test_the_loss_is_the_weighted_mean_over_its_targets() -> None:
    model = random_planner()
    rows, _ = packed(model.config)
    rows["weights"] = torch.rand(rows["weights"].shape)
    logits = model(*given(rows)).log_softmax(-1).detach()
    asked = [(place, target) for place, target in enumerate(rows["targets"][0].tolist()) if target != NO_LOSS]
    weights = [float(rows["weights"][0, place]) for place, _ in asked]
    losses = [-float(logits[0, place, target]) for place, target in asked]
    wanted = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert model.loss(rows).item() == pytest.approx(wanted, rel=1e-4)
    assert len(asked) == len("#pick(a)") + len("done()") + 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_a_cache_computes_what_full_passes_do_also_when_rewound(name: str, seed: int) -> None:
    model = random_planner(name)
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    text = torch.randint(4, config.vocabulary, (1, 40), generator=generator)
    words = Characters(config.image_tokens).encode("<proprioception><image>")
    tokens = torch.cat([text[:, :11], torch.tensor([words]), text[:, 11:]], dim=1)
    count = tokens.shape[1]
    seen, felt = looks(config, 1, seed)
    positions = torch.arange(count)[None]
    mask = torch.ones(1, count, count, dtype=torch.bool).tril()
    whole = model(tokens, positions, mask, seen, felt)
    cache, done, behind = DynamicCache(), 0, 11 + len(words)
    borders = sorted(torch.randint(behind + 1, count, (4,), generator=generator).unique().tolist())
    for stop in [5, behind, *borders, count]:
        part = slice(done, stop)
        look = (seen, felt) if done < behind <= stop else (None, None)
        found = model(tokens[:, part], positions[:, part], mask[:, part, :stop], *look, cache)
        torch.testing.assert_close(found, whole[:, part], atol=1e-5, rtol=1e-4)
        # A wrong draft of three tokens, and back.
        draft = torch.randint(4, config.vocabulary, (1, 3), generator=generator)
        ones = torch.ones(1, stop + 3, stop + 3, dtype=torch.bool).tril()[:, stop:]
        model(draft, torch.arange(stop, stop + 3)[None], ones, cache=cache)
        rewind(cache, stop)
        done = stop
    assert cache.get_seq_length() == count
    with pytest.raises(ValueError, match=rf"^cache: expected at least {count + 1} tokens, got {count}$"):
        rewind(cache, count + 1)
