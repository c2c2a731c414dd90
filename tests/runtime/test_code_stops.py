"""A pretrained planner stops where its model ends a turn, and at nothing else (rknn-llm #36)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_pieces  # noqa: E402
from transformers import LlavaForConditionalGeneration  # noqa: E402

import keystep  # noqa: E402
from keystep.export.code_bundle import export_code_bundle, load_code_planning  # noqa: E402
from keystep.models.code_planner.pieces import own_pieces  # noqa: E402
from keystep.models.code_planner.pretrained import pretrained_planner  # noqa: E402
from keystep.models.observing import camera_feature  # noqa: E402
from keystep.train.code_pretrained import pretrained_checkpoint  # noqa: E402

TASK = "Pick up the red cube"
SIGHT = (camera_feature("base", 32, 32),)
SEEN = {"observation.images.base": np.full((32, 32, 3), 99, np.uint8)}
REPLY = 6


def written(hub: Path, folder: Path) -> str | None:
    """The reply of the bundle of a model; None: it has no end."""
    pretrained_checkpoint(folder, hub, observation=SIGHT, grid=tiny_pieces.GRID, context=512)
    bundle = export_code_bundle(folder, folder / "it.keystep", reply_tokens=REPLY)
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        try:
            return planner.ask(SEEN).text
        except keystep.PolicyError:
            (event,) = planner.events()
            assert event.kind == "endless" and event.text
            words = load_code_planning(folder, REPLY).language.tokenizer
            assert words.decode_bytes(words.encode(event.text)).decode() == event.text
            return None


def test_it_stops_at_the_end_of_a_turn_only(tmp_path: Path) -> None:
    """The head's rows of `<|end|>`, and of other control tokens, become multiples of the likeliest row."""
    hub = tiny_pieces.write(tmp_path / "hub")
    planner, theirs = pretrained_planner(hub, SIGHT, context=512)
    _, order = own_pieces(theirs, planner.config)
    assert written(hub, tmp_path / "as it is") is None, "random weights come to no end"
    model = LlavaForConditionalGeneration.from_pretrained(hub)
    head = model.lm_head.weight.data
    likeliest = head[order[first_token(tmp_path / "as it is")]].clone()
    for name in ("</s>", "<|endoftext|>", "<|user|>"):
        head[theirs.convert_tokens_to_ids(name)] = 4 * likeliest
    model.save_pretrained(hub)
    assert written(hub, tmp_path / "others") is None, "they are never written, and end nothing"
    head[theirs.convert_tokens_to_ids("<|end|>")] = 3 * likeliest
    model.save_pretrained(hub)
    assert written(hub, tmp_path / "end") == ""


def first_token(checkpoint: Path) -> int:
    """Of torch's reply, in our numbers."""
    from keystep.code.prompt import Prompt
    from keystep.export.code_golden import seen_and_felt
    from keystep.models.code_planner.writing import ReplyWriter

    planning = load_code_planning(checkpoint, REPLY)
    maker = planning.language.maker(planning.config)
    ids = [token for chunk in maker.question(Prompt(TASK), episode=0) for token in chunk.tokens]
    writer = ReplyWriter(planning.model, planning.language.tokenizer, REPLY)
    return writer.write(ids, *seen_and_felt(planning, SEEN)).ids[0]
