"""LLaVA through transformers, small and random, from a local folder as the hub has it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny_llava  # noqa: E402

from keystep.models.checks import ConfigError  # noqa: E402
from keystep.models.code_planner.config import CodePlannerConfig  # noqa: E402
from keystep.models.code_planner.network import CodePlanner  # noqa: E402
from keystep.models.code_planner.pretrained import LlavaError, pretrained_planner, with_lora  # noqa: E402
from keystep.models.code_planner.writing import ReplyWriter  # noqa: E402
from keystep.models.observing import camera_feature, state_feature  # noqa: E402

SIGHT = (camera_feature("base", 32, 32),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write(tmp_path_factory.mktemp("llava") / "hub")


def inputs(config: CodePlannerConfig, tokenizer) -> tuple:
    ids = tokenizer("go <image> pick", add_special_tokens=False)["input_ids"]
    place = ids.index(config.image_id)
    ids = [*ids[:place], *[config.image_id] * config.image_tokens, *ids[place + 1 :]]
    tokens = torch.tensor([ids])
    mask = torch.ones(1, len(ids), len(ids), dtype=torch.bool).tril()
    return tokens, torch.arange(len(ids))[None], mask


def test_logits_are_those_of_transformers(folder: Path) -> None:
    """Weights of a folder; CLIP's features of the last layer but one, projected, in place of image tokens."""
    planner, tokenizer = pretrained_planner(folder, SIGHT, context=64)
    tokens, positions, mask = inputs(planner.config, tokenizer)
    pictures = torch.rand(1, 3, 32, 32)
    reference = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (tiny_llava.MEAN, tiny_llava.STD))
    with torch.no_grad():
        wanted = reference(input_ids=tokens, pixel_values=(pictures - mean) / std).logits
        found = planner(tokens, positions, mask, pictures)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert planner.config.image_mean == tiny_llava.MEAN
    other = torch.rand(1, 3, 48, 64)  # is resized
    assert planner(tokens, positions, mask, other).isfinite().all()


def test_its_configuration_makes_the_same_network(folder: Path) -> None:
    """Without the folder; weights come from a checkpoint then."""
    planner, tokenizer = pretrained_planner(folder, SIGHT, context=64)
    config = CodePlannerConfig.from_dict(json.loads(json.dumps(planner.config.to_dict())))
    assert config == planner.config
    again = CodePlanner(config).eval()
    again.load_state_dict(planner.state_dict())
    given = (*inputs(config, tokenizer), torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(again(*given), planner(*given))
    assert "proprioception" not in " ".join(planner.state_dict())


def test_gradients_reach_what_the_features_need(folder: Path) -> None:
    """All but CLIP's last layer, which features of the last but one do not need, and its norm behind."""
    planner, tokenizer = pretrained_planner(folder, (*SIGHT, state_feature(3)), context=64)
    tokens, positions, mask = inputs(planner.config, tokenizer)
    tokens[0, 0] = planner.config.proprioception_id
    targets = torch.full_like(tokens, 5)
    batch = {"tokens": tokens, "positions": positions, "mask": mask, "targets": targets}
    batch |= {"weights": torch.ones(tokens.shape), "pictures": torch.rand(1, 3, 32, 32)}
    planner.train().loss(batch | {"proprioception": torch.rand(1, 3)}).backward()
    missing = {name for name, value in planner.named_parameters() if value.grad is None}
    assert all("layers.1." in name or "post_layernorm" in name for name in missing if "tower" in name)
    assert not [name for name in missing if "tower" not in name]


def test_it_writes(folder: Path) -> None:
    planner, tokenizer = pretrained_planner(folder, SIGHT, context=64)

    class Text:
        def encode(self, text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def no_text(self, vocabulary: int) -> list[int]:
            return []

        def decode(self, ids) -> str:
            return tokenizer.decode(ids)

    prompt = inputs(planner.config, tokenizer)[0][0].tolist()
    writing = ReplyWriter(planner, Text(), limit=6)
    plain = writing.write(prompt, torch.rand(1, 3, 32, 32))
    assert 0 < plain.passes <= 6


def test_what_is_missing_is_told(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no tries
    with pytest.raises(LlavaError, match=r"expected a LLaVA of transformers, got: "):
        pretrained_planner(tmp_path, SIGHT)
    with pytest.raises(LlavaError, match=r"^llava: expected no-one/nothing on the model hub or in its local"):
        pretrained_planner("no-one/nothing", SIGHT)
    with pytest.raises(ConfigError, match=r"^end: expected a token of the tokeniser, got '<stop>'$"):
        pretrained_planner(folder, SIGHT, context=64, end="<stop>")
    with pytest.raises(ConfigError, match=r"^code_planner.context: expected at most 64 \(.*\), got 65$"):
        pretrained_planner(folder, SIGHT, context=65)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_tokens": 3},
            r"code_planner.image_tokens: expected 4 \(patches of the vision tower\), got 3",
        ),
        ({"vocabulary": 400}, r"code_planner.vocabulary: expected \d+ \(llava.text_config\), got 400"),
        (
            {"image_std": (1.0, 0.0, 1.0)},
            r"code_planner.image_std: expected three values, a deviation above 0",
        ),
        ({"image_id": 7}, r"code_planner.llava.image_token_index: expected 7, got \d+"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(folder: Path, change: dict, message: str) -> None:
    planner, _ = pretrained_planner(folder, SIGHT, context=64)
    with pytest.raises(ConfigError, match=f"^{message}"):
        CodePlanner(replace(planner.config, **change))


def test_no_code_of_a_folder_is_run(folder: Path, tmp_path: Path) -> None:
    """Phi-3's hub folders bring code that caches of newer packages break (transformers #36071)."""
    other = shutil.copytree(folder, tmp_path / "hub")
    marker = tmp_path / "it was run"
    (other / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    for name, entry in (
        ("config.json", {"AutoConfig": "evil.A", "AutoModelForCausalLM": "evil.A"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.A", "evil.A"]}),
    ):
        told = json.loads((other / name).read_text())
        if name == "config.json":
            told["text_config"]["auto_map"] = entry
        (other / name).write_text(json.dumps(told | {"auto_map": entry}))
    found, _ = pretrained_planner(other, SIGHT, context=64)
    wanted, tokenizer = pretrained_planner(folder, SIGHT, context=64)
    given = (*inputs(wanted.config, tokenizer), torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(found(*given), wanted(*given), atol=0, rtol=0)
    assert not marker.exists()


@pytest.mark.parametrize("rope", ["window", "longrope"])
def test_a_context_ends_where_the_decoder_changes(folder: Path, rope: str) -> None:
    """A sliding window forgets, and a second range of rotary factors makes a cache stale (#33129)."""
    planner, _ = pretrained_planner(folder, SIGHT, context=64)
    llava = {**planner.config.llava, "text_config": dict(planner.config.llava["text_config"])}
    if rope == "window":
        llava["text_config"]["sliding_window"] = 40
    else:
        factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
        llava["text_config"] |= {
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **factors},
            "original_max_position_embeddings": 40,
        }
    with pytest.raises(ConfigError, match=r"^code_planner.context: expected at most 40 .*, got 64$"):
        CodePlanner(replace(planner.config, llava=llava))
    assert CodePlanner(replace(planner.config, llava=llava, context=40)) is not None


def test_adapters(folder: Path) -> None:
    planner, tokenizer = pretrained_planner(folder, SIGHT, context=64)
    if find_spec("peft") is None:
        with pytest.raises(
            LlavaError, match=r"^lora: expected the package peft \(pip install peft\), got none$"
        ):
            with_lora(planner)
        assert all(value.requires_grad for value in planner.parameters())
        return
    given = (*inputs(planner.config, tokenizer), torch.rand(1, 3, 32, 32))
    before, names = planner(*given), list(planner.state_dict())
    wrapper = with_lora(planner, rank=2)
    learning = {name for name, value in planner.named_parameters() if value.requires_grad}
    assert all("lora" in name or not name.startswith("decoder") for name in learning)
    assert any("lora" in name for name in learning)
    planner.decoder = wrapper.merge_and_unload()
    torch.testing.assert_close(planner.eval()(*given), before, atol=1e-5, rtol=1e-4)
    assert list(planner.state_dict()) == names
