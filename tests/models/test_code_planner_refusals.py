"""What the network of planners that write refuses: batches and configurations."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_writers import example, random_planner, small  # noqa: E402

from keystep.features import Feature  # noqa: E402
from keystep.models.checks import ConfigError  # noqa: E402
from keystep.models.code_planner.config import CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.network import NO_LOSS  # noqa: E402
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS  # noqa: E402
from keystep.models.observing import camera_feature, state_feature, vector_feature  # noqa: E402


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
    model = random_planner()
    batch = example(model.config, "go<proprioception><image>") | change
    assert batch["tokens"].shape == (1, 14)
    with pytest.raises(ValueError, match=f"^{message}$"):
        model.loss(batch)


def test_tokens_beyond_the_vocabulary_are_refused() -> None:
    model = random_planner()
    batch = example(model.config, "go<proprioception><image>")
    batch["tokens"][0, 0] = 35
    with pytest.raises(ValueError, match=r"^tokens: expected ids below 35, got 2..35$"):
        model.loss(batch)


def test_a_part_of_a_pictures_tokens_is_refused() -> None:
    """As is a number of tokens that is no whole number of pictures."""
    model = random_planner()
    batch = example(model.config, "go<proprioception><image>")
    batch["tokens"][0, 5] = 10
    with pytest.raises(ValueError, match=r"^pictures: expected 0.75 \(3 tokens .*\), got 1$"):
        model.loss(batch)


def test_a_planner_without_the_token_refuses_proprioception() -> None:
    model = random_planner(observation=(camera_feature("base", 32, 32),))
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
        ({"width": 72}, "width: expected a multiple of 64 (16 x heads), got 72"),
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
