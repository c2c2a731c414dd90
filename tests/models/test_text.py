"""Text encoders: the default one, finding one by name, saved folders and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch.nn import functional  # noqa: E402

from keystep.models.text import TextEncoder, TextEncoderError, load_text_encoder  # noqa: E402
from keystep.models.text.corpus_encoder import CorpusConfig, CorpusEncoder  # noqa: E402
from keystep.models.text.words import Vocabulary  # noqa: E402
from keystep.suites.franka3blocks import TASKS  # noqa: E402
from keystep.suites.franka3blocks.instructions import held_out, phrasings  # noqa: E402
from keystep.suites.franka3blocks.layout import CUBES  # noqa: E402
from keystep.train.text import train_corpus_encoder  # noqa: E402

# Written after the encoder was trained and its corpus fixed, and not changed since.
FREE = {
    "lift_red": ["Get that scarlet cube off the table for me", "red cube up please", "LIFT RED BLOCK"],
    "lift_green": ["Would you mind raising up the emerald brick? Lift it!", "hold the green thing up"],
    "lift_blue": ["Just pick the navy one up, robot", "I'd love to see you hoist our blue box"],
    "push_red_left": ["Nudge the ruby brick leftwards a little", "slide red left"],
    "push_green_right": [
        "the lime piece must be pushed; push it to the right",
        "Shove green to the right side",
    ],
    "push_blue_left": ["Drag the little cobalt cube over towards the left edge", "move the azure block left"],
    "push_blue_right": ["Scoot blue to the right, would you", "Please slide the blue box rightward slowly"],
    "stack": [
        "Put any cube onto a second cube",
        "pile two of the bricks up",
        "Build me a nice tower of blocks",
    ],
}


def pooled(encoder: TextEncoder, texts: tuple[str, ...] | list[str]) -> torch.Tensor:
    """[texts, D]: the mean over tokens, unit length."""
    mask = encoder.tokenize(texts)[1]
    return functional.normalize(encoder.encode(texts).sum(1) / mask.sum(1, keepdim=True), dim=-1)


def test_shapes_and_padding_of_the_default_encoder() -> None:
    encoder = load_text_encoder()
    tokens = encoder.encode(["Lift the red block.", "", "word " * 99])
    assert (encoder.kind, encoder.tokens, encoder.width) == ("corpus", 24, 64)
    assert tokens.shape == (3, 24, 64)
    assert [int((row != 0).any(-1).sum()) for row in tokens] == [5, 1, 24]
    alone = encoder.encode(["Lift the red block."])
    torch.testing.assert_close(tokens[:1], alone)  # a sentence does not depend on its batch


def test_the_encoder_stays_frozen_inside_a_model_that_trains() -> None:
    encoder = load_text_encoder()
    torch.nn.Sequential(encoder).train()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.encode(["Lift it."]).requires_grad


def test_held_out_sentences_are_understood() -> None:
    encoder = load_text_encoder()
    names = list(TASKS)
    centres = functional.normalize(
        torch.stack([pooled(encoder, phrasings(name)).mean(0) for name in names]), dim=-1
    )

    def share(sentences_of: dict[str, tuple[str, ...]]) -> float:
        found = [pooled(encoder, texts) @ centres.T for texts in sentences_of.values()]
        right = [
            (scores.argmax(-1) == names.index(name)).float()
            for name, scores in zip(sentences_of, found, strict=True)
        ]
        return float(torch.cat(right).mean())

    assert share({name: held_out(name) for name in names}) > 0.98
    assert share(FREE) > 0.8


def test_attributes_are_linearly_readable() -> None:
    """Least squares on training sentences reads verb, colour and side of held-out ones."""
    encoder = load_text_encoder()

    def labelled(sentences_of) -> tuple[torch.Tensor, torch.Tensor]:
        rows, labels = [], []
        for name, task in TASKS.items():
            texts = sentences_of(name)
            colour = torch.eye(4)[len(CUBES) if task.cube is None else task.cube]
            verb = torch.eye(3)[["lift", "push", "stack"].index(task.family)]
            rows.append(pooled(encoder, texts))
            labels.append(torch.cat([verb, colour, torch.eye(3)[task.direction % 3]]).expand(len(texts), -1))
        return torch.cat(rows), torch.cat(labels)

    known, wanted = labelled(phrasings)
    unseen, truth = labelled(held_out)
    answer = unseen @ torch.linalg.lstsq(known, wanted).solution
    for columns in (slice(0, 3), slice(3, 7), slice(7, 10)):
        right = answer[:, columns].argmax(-1) == truth[:, columns].argmax(-1)
        assert right.float().mean() > 0.97


def test_unknown_words_are_passed_over() -> None:
    encoder = load_text_encoder()
    plain, padded, other = pooled(
        encoder,
        [
            "Push the green block to the left.",
            "Bitte push the green zorblax block quietly to the left, danke",
            "Push the green block to the right.",
        ],
    )
    assert plain @ padded > 0.9
    assert plain @ other < 0.8


def test_training_depends_on_the_seed_alone(tmp_path: Path) -> None:
    weights = {}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        report = train_corpus_encoder(tmp_path / run, steps=2, seed=seed)
        weights[run] = load_file(tmp_path / run / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weights["a"][name], weights["b"][name]) for name in weights["a"])
    assert not torch.equal(weights["a"]["places"], weights["c"]["places"])
    assert report.sentences == 600
    assert set(report.to_dict()["attributes"]) == {"verb", "colour", "side"}
    assert load_text_encoder(tmp_path / "a").vocabulary.words == load_text_encoder().vocabulary.words


def test_any_suite_with_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worlds").mkdir()
    (tmp_path / "worlds/moon.py").write_text("from moon_suite import SUITE\n")
    monkeypatch.syspath_prepend(tmp_path)
    report = train_corpus_encoder(tmp_path / "moon", steps=2, suite="worlds.moon")
    assert report.sentences == 2 and set(report.attributes) == {"side"}
    assert "left" in load_text_encoder(tmp_path / "moon").vocabulary.words
    with pytest.raises(KeyError, match="Pick"):
        train_corpus_encoder(tmp_path / "none", steps=2, suite="tabletop")
    assert not (tmp_path / "none").exists()


def test_a_small_encoder_of_any_size(tmp_path: Path) -> None:
    encoder = CorpusEncoder(
        Vocabulary(["lift", "red"]), CorpusConfig(tokens=5, width=8, layers=1, heads=2, hidden=4)
    )
    encoder.save(tmp_path / "small")
    again = load_text_encoder(tmp_path / "small")
    assert again.encode(["lift red"]).shape == (1, 5, 8)


# ---- what is refused


@pytest.mark.parametrize("name", ["word2vec", "no/such/folder", "./clip", "", "a/b/c"])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(TextEncoderError, match="expected one of corpus, clip, t5, minilm, a hub id"):
        load_text_encoder(name)


def damaged(folder: Path, **changes: object) -> Path:
    load_text_encoder().save(folder)
    path = folder / "text_encoder.json"
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "expected keystep-text-encoder version 1, got keystep-text-encoder version 2"),
        ({"format": "zip"}, "expected keystep-text-encoder"),
        ({"kind": "elmo"}, "kind: expected one of corpus, clip, t5, minilm, got 'elmo'"),
        ({"files": None}, "files: expected checksums"),
        ({"files": {"model.safetensors": "00"}}, "expected sha256 00"),
        ({"files": {"model.safetensors": "00", "../x": "00"}}, "sha256|in the folder"),
        ({"words": ["one"]}, "expected a corpus encoder"),
        ({"words": ["two words"]}, "vocabulary"),
        ({"width": "wide"}, "expected a corpus encoder"),
        ({"heads": None}, "expected a corpus encoder"),
    ],
)
def test_damaged_descriptions(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TextEncoderError, match=message):
        load_text_encoder(damaged(tmp_path / "encoder", **changes))


def test_damaged_files(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "encoder")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(TextEncoderError, match="expected sha256"):
        load_text_encoder(folder)
    weights.unlink()
    with pytest.raises(TextEncoderError, match="no such file"):
        load_text_encoder(folder)
    (folder / "text_encoder.json").write_text("{")
    with pytest.raises(TextEncoderError, match="expected JSON"):
        load_text_encoder(folder)
    (folder / "text_encoder.json").write_text("[]")
    with pytest.raises(TextEncoderError, match="expected an object, got list"):
        load_text_encoder(folder)
