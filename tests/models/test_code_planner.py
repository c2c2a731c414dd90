"""The network of planners that write: shapes, packing, caches, gradients, checks."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_writers import Characters, lesson_batch, looks, small  # noqa: E402
from transformers import DynamicCache  # noqa: E402

from keystep.features import Feature  # noqa: E402
from keystep.models.checks import ConfigError  # noqa: E402
from keystep.models.code_planner.config import CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.network import NO_LOSS, CodePlanner, given, rewind  # noqa: E402
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS  # noqa: E402
from keystep.models.observing import camera_feature, state_feature, vector_feature  # noqa: E402

NAMES = ["micro", "micro-state"]


def planner(name: str = "micro", **changes: object) -> CodePlanner:
    torch.manual_seed(0)
    return CodePlanner(small(name, **changes)).eval()


def example(config: CodePlannerConfig, prompt: str, seed: int = 0, reply: str = "pick(a)") -> dict:
    return lesson_batch(config, Characters(config.image_tokens), prompt, seed, reply)


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
    model = planner(name).train()
    batch = example(model.config, "go<proprioception><image>")
    if model.config.objects:  # of both kinds
        batch["objects"][0, :2, 0] = torch.tensor([0.0, 1.0])
    model.loss(batch).backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_what_it_sees_and_feels_matters_and_what_it_does_not_attend_to_does_not(name: str) -> None:
    model = planner(name)
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
    model = planner("micro-state")
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
    trunk, ends = (
        words.encode("stack\npick(a)\nplace(b)"),
        (len("stack\npick(a)"), len("stack\npick(a)\nplace(b)")),
    )
    replies = ["#pick(a)", "done()"]
    row, positions, targets = list(trunk), list(range(len(trunk))), [NO_LOSS] * len(trunk)
    mask = torch.zeros(300, 300, dtype=torch.bool)
    mask[: len(trunk), : len(trunk)] = torch.ones(len(trunk), len(trunk), dtype=torch.bool).tril()
    seen, felt = looks(config, 2, 5)
    alone = []
    key = "pictures" if config.picture else "objects"
    for step, (end, reply) in enumerate(zip(ends, replies, strict=True)):
        branch = words.encode(f"<proprioception><image>{reply}")
        first = len(row)
        place = slice(first, first + len(branch))
        row += branch
        positions += range(end, end + len(branch))
        answer = [*words.encode(reply), config.end_id]
        targets += [NO_LOSS] * (len(branch) - len(answer) + 1) + answer[1:]
        targets[first + config.image_tokens] = answer[0]
        mask[place, :end] = True
        mask[place, place] = torch.ones(len(branch), len(branch), dtype=torch.bool).tril()
        batch = lesson_batch(config, words, "", 0, "")
        whole = torch.tensor([trunk[:end] + branch])
        batch |= {
            "tokens": whole,
            "positions": torch.arange(whole.shape[1])[None],
            "mask": torch.ones(1, whole.shape[1], whole.shape[1], dtype=torch.bool).tril(),
            key: seen[step : step + 1],
            "proprioception": felt[step : step + 1],
        }
        alone.append((place, batch))
    count = len(row)
    rows = {
        "tokens": torch.tensor([row]),
        "positions": torch.tensor([positions]),
        "mask": mask[None, :count, :count],
        "targets": torch.tensor([targets]),
        "weights": torch.ones(1, count),
        key: seen,
        "proprioception": felt,
    }
    return rows, alone


@pytest.mark.parametrize("name", NAMES)
def test_packed_steps_are_each_step_alone(name: str) -> None:
    model = planner(name)
    rows, alone = packed(model.config)
    logits = model(*given(rows))
    for place, batch in alone:
        single = model(*given(batch))
        torch.testing.assert_close(
            logits[:, place], single[:, -(place.stop - place.start) :], atol=1e-5, rtol=1e-4
        )


def test_the_loss_is_the_weighted_mean_over_its_targets() -> None:
    model = planner()
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
    model = planner(name)
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


# ---- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": None}, r"pictures: expected 1 \(4 tokens in place of them, 4 each\), got 0"),
        ({"pictures": torch.rand(2, 3, 32, 32)}, r"pictures: expected 1 \(4 tokens .*\), got 2"),
        (
            {"proprioception": None},
            r"proprioception: expected 1 \(1 tokens in place of them, 1 each\), got 0",
        ),
        ({"proprioception": torch.rand(3, 5)}, r"proprioception: expected 1 .*, got 3"),
        ({"positions": torch.arange(3)[None]}, r"positions: expected \(1, 14\), got \(1, 3\)"),
        (
            {"positions": torch.arange(14)[None] + 1020},
            r"positions: expected 0..1023 \(context\), got 1020..1033",
        ),
        (
            {"mask": torch.ones(1, 14, 13, dtype=torch.bool)},
            r"mask: expected \(1, 14, 14\), got \(1, 14, 13\)",
        ),
        ({"mask": torch.ones(1, 14, 14)}, r"mask.dtype: expected torch.bool, got torch.float32"),
        (
            {"mask": torch.ones(1, 14, 14, dtype=torch.bool).tril(-1)},
            r"mask: expected every token to attend to one, got 1 that attend to none",
        ),
        (
            {"targets": torch.full((1, 14), NO_LOSS)},
            r"targets: expected a position with a target .*, got none",
        ),
        ({"targets": torch.full((1, 14), 35)}, r"targets: expected ids below 35, got 35..35"),
        (
            {"weights": torch.zeros(1, 14)},
            r"targets: expected a position with a target and a weight, got none",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    model = planner()
    batch = example(model.config, "go<proprioception><image>") | change
    assert batch["tokens"].shape == (1, 14)
    with pytest.raises(ValueError, match=f"^{message}$"):
        model.loss(batch)


def test_tokens_beyond_the_vocabulary_are_refused() -> None:
    model = planner()
    batch = example(model.config, "go<proprioception><image>")
    batch["tokens"][0, 0] = 35
    with pytest.raises(ValueError, match=r"^tokens: expected ids below 35, got 2..35$"):
        model.loss(batch)


def test_a_part_of_a_pictures_tokens_is_refused() -> None:
    """As is a number of tokens that is no whole number of pictures."""
    model = planner()
    batch = example(model.config, "go<proprioception><image>")
    batch["tokens"][0, 5] = 10
    with pytest.raises(ValueError, match=r"^pictures: expected 0.75 \(3 tokens .*\), got 1$"):
        model.loss(batch)


def test_a_planner_without_the_token_refuses_proprioception() -> None:
    model = planner(observation=(camera_feature("base", 32, 32),))
    batch = example(model.config, "go<image>")
    with pytest.raises(ValueError, match=r"^proprioception: expected none, as .* no such token, got some$"):
        model.loss(batch)
    del batch["proprioception"]
    assert model.loss(batch).item() > 0


PICTURE, STATE = camera_feature("base", 32, 32), state_feature(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation": ()}, "observation: expected at least one feature, got 'none'"),
        ({"observation": (STATE,)}, "observation: expected one RGB picture, or observation.objects, got"),
        (
            {"observation": (PICTURE, camera_feature("wrist", 32, 32))},
            "observation: expected one RGB picture",
        ),
        (
            {"observation": (PICTURE, STATE, vector_feature("observation.other", 3))},
            "observation: expected at most",
        ),
        (
            {"observation": (camera_feature("base", 40, 32),)},
            "observation: observation.images.base.shape: expected",
        ),
        (
            {"observation": (PICTURE, state_feature(5, history=2))},
            "observation: observation.state.history: expected 1",
        ),
        (
            {"observation": (Feature("observation.images.base", "depth", (32, 32)),)},
            "observation: observation.images.base.kind: expected rgb, got 'depth'",
        ),
        (
            {"observation": (vector_feature("observation.objects", 161),)},
            "observation: observation.objects.shape",
        ),
        ({"observation": (vector_feature("observation.objects", 160),)}, "image_tokens: expected 8"),
        ({"layers": 0}, "layers: expected a positive integer, got 0"),
        ({"network": "gpt"}, "network: expected own | llava, got 'gpt'"),
        ({"heads": 3}, "heads: expected a multiple of 2 (key_heads), got 3"),
        ({"width": 36}, "width: expected a multiple of 8 (2 x heads), got 36"),
        ({"stem": (4, 8)}, "stem: expected channels of four stages, got (4, 8)"),
        ({"end_id": 2}, "end_id: expected an id below 35, of no other special token, got 2"),
        ({"image_id": 35}, "image_id: expected an id below 35, of no other special token, got 35"),
        ({"llava": {"text_config": {}}}, "llava: expected {} of an own network"),
        ({"network": "llava"}, "llava.vision_config: expected an object with model_type, got None"),
    ],
)
def test_configurations_that_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        small(**change)
    assert str(refused.value).startswith(f"code_planner.{message}")


@pytest.mark.parametrize("name", CODE_PLANNER_PRESETS)
def test_configurations_go_through_json(name: str) -> None:
    import json

    config = CODE_PLANNER_PRESETS[name]
    assert CodePlannerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match=r"^code_planner.colour: expected one of "):
        CodePlannerConfig.from_dict(config.to_dict() | {"colour": 1})
    assert replace(config) == config
