"""Graphs of a planner that writes code: the cache in place, what is seen, weights of eight bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import code_config, found_words, small_llava  # noqa: E402

from keystep.export.code_decoder import decoder_graph  # noqa: E402
from keystep.export.code_graphs import PRECISIONS, embed_graph, vision_graph, vision_inputs  # noqa: E402
from keystep.export.code_tensors import FIRST, LENGTH, LOGITS, TOKENS, VECTORS, past_names  # noqa: E402
from keystep.export.code_weights import BLOCK, MIDDLE, quantized  # noqa: E402
from keystep.export.errors import ExportError  # noqa: E402
from keystep.models.code_planner.network import CodePlanner  # noqa: E402

CAPACITY = 40
SIZES: list[dict[str, Any]] = [
    {},
    {"layers": 1, "heads": 2, "key_heads": 1, "width": 32},
    {"heads": 3, "key_heads": 3, "width": 48, "hidden": 33},
    {"heads": 4, "key_heads": 1, "width": 128, "vocabulary": 600},
]


def session(model: Any) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def planner(seed: int = 0, **changes: Any) -> CodePlanner:
    torch.manual_seed(seed)
    return CodePlanner(code_config(**changes)).eval()


class Decoder:
    """The graph with a cache that holds rubbish where nothing was written yet."""

    def __init__(self, network: CodePlanner, precision: str = "fp32") -> None:
        model = decoder_graph(network.decoder, network.head, CAPACITY, PRECISIONS[precision])
        self.session = session(model)
        sizes = network.decoder.config
        width = sizes.hidden_size // sizes.num_attention_heads
        shape = (1, sizes.num_key_value_heads, CAPACITY, width)
        self.cache = {
            names: onnxruntime.OrtValue.ortvalue_from_numpy(np.full(shape, np.nan, np.float32))
            for names in past_names(sizes.num_hidden_layers)
        }

    def __call__(self, rows: np.ndarray, length: int, first: int = 0) -> np.ndarray:
        binding = self.session.io_binding()
        binding.bind_cpu_input(VECTORS, np.ascontiguousarray(rows[None]))
        binding.bind_cpu_input(LENGTH, np.array([length]))
        binding.bind_cpu_input(FIRST, np.array([first]))
        binding.bind_output(LOGITS)
        for (past, present), memory in self.cache.items():
            binding.bind_ortvalue_input(past, memory)
            binding.bind_ortvalue_output(present, memory)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()[0]


@torch.no_grad()
def by_torch(network: CodePlanner, rows: np.ndarray) -> np.ndarray:
    count = len(rows)
    hidden = network.decoder(
        inputs_embeds=torch.from_numpy(rows)[None],
        position_ids=torch.arange(count)[None],
        attention_mask=torch.ones(1, 1, count, count, dtype=torch.bool).tril(),
    ).last_hidden_state
    return network.head(hidden)[0].numpy()


def random_rows(network: CodePlanner, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, network.decoder.config.hidden_size)).astype(np.float32)


@pytest.mark.parametrize("changes", SIZES, ids=lambda changes: str(len(changes)))
def test_the_decoder_is_that_of_torch(changes: dict[str, Any]) -> None:
    network = planner(**changes)
    decode, rows = Decoder(network), random_rows(network, 30)
    wanted, got = by_torch(network, rows), decode(rows, 0)
    np.testing.assert_allclose(got, wanted, atol=3e-6)
    assert (got.argmax(axis=1) == wanted.argmax(axis=1)).all()
    np.testing.assert_array_equal(decode(rows, 0, 25), got[25:])  # of fewer rows the same logits


def test_a_cache_filled_in_pieces_is_that_of_one_pass() -> None:
    """Rows that were written before it was rewound are never read, whatever they hold."""
    network = planner()
    decode, rows = Decoder(network), random_rows(network, CAPACITY)
    whole = decode(rows, 0)
    decode(random_rows(network, 30, seed=1) * 50, 10)
    pieces = [decode(rows[start:stop], start) for start, stop in ((10, 16), (16, 33), (33, CAPACITY))]
    np.testing.assert_allclose(np.concatenate(pieces), whole[10:], atol=1e-6)
    single = [decode(rows[start : start + 1], start) for start in range(20, CAPACITY)]
    np.testing.assert_allclose(np.concatenate(single), whole[20:], atol=1e-6)


def test_eight_bits_are_near_and_rows_stand_alone() -> None:
    network = planner()
    exact, decode = Decoder(network), Decoder(network, "int8")
    rows = random_rows(network, 24)
    whole, wanted = decode(rows, 0), exact(rows, 0)
    assert 1e-5 < np.abs(whole - wanted).max() < 0.05 * np.abs(wanted).max()
    decode(rows[:12], 0)
    great = rows[12:] * np.linspace(1, 100, 12, dtype=np.float32)[:, None]
    # Row 12 attends to those before it; what stands behind it in the pass is another matter.
    alone, beside = decode(rows[12:14], 12)[0], decode(np.concatenate([rows[12:13], great[1:]]), 12)[0]
    np.testing.assert_allclose(alone, beside, atol=0.02 * np.abs(whole).max())


@pytest.mark.parametrize(("rows", "width"), [(3, BLOCK), (5, 2 * BLOCK + 7), (2, 9)])
def test_blocks_are_rounded_to_the_nearest(rows: int, width: int) -> None:
    weight = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    weight[0, :BLOCK] = 0
    values, scales = quantized(weight)
    assert values.shape == (rows, -(-width // BLOCK), BLOCK) and values.dtype == np.uint8
    back = (values.astype(np.float32) - MIDDLE) * scales.reshape(rows, -1, 1)
    flat = back.reshape(rows, -1)
    assert not flat[:, width:].any() and not flat[0, :BLOCK].any()
    limits = np.repeat(scales.reshape(rows, -1), BLOCK, axis=1)[:, :width]
    assert (np.abs(flat[:, :width] - weight) <= 0.5001 * limits).all()


@pytest.mark.parametrize("preset", ["micro", "micro-state", "found", "llava"])
@pytest.mark.parametrize("felt", [True, False], ids=["felt", "not felt"])
def test_what_is_seen_and_read_is_that_of_torch(preset: str, felt: bool) -> None:
    changes = {"llava": small_llava(felt), "found": found_words()}.get(preset, {"preset": preset})
    network = planner(**changes)
    if not felt and preset != "llava":
        network = CodePlanner(replace(network.config, observation=network.config.observation[:1])).eval()
    config, generator = network.config, torch.Generator().manual_seed(0)
    inputs = {
        name: torch.rand(value.shape, generator=generator) for name, value in vision_inputs(config).items()
    }
    made = session(vision_graph(network)).run(None, {name: value.numpy() for name, value in inputs.items()})
    ids = [config.image_id] * config.image_tokens
    ids += [config.proprioception_id] * (config.proprioception is not None)
    values = list(inputs.values())
    with torch.no_grad():
        wanted = network.embed(torch.tensor([ids]), values[0], values[1] if len(values) > 1 else None)
        words = network.embed(torch.tensor([[5, 300, 7]]), None, None)
    np.testing.assert_allclose(np.concatenate(made, axis=1), wanted.numpy(), atol=2e-5)
    (read,) = session(embed_graph(network)).run(None, {TOKENS: np.array([[5, 300, 7]])})
    np.testing.assert_array_equal(read, words.numpy())


def test_decoders_of_another_kind_are_refused() -> None:
    network = planner()
    with pytest.raises(ExportError, match=r"^context: expected 1\.\.1024 \(positions .*\), got 1025$"):
        decoder_graph(network.decoder, network.head, 1025)
    rope = network.decoder.config.rope_parameters
    rope["rope_type"] = "longrope"  # its switch would leave a stale cache (onnxruntime-genai #1161)
    with pytest.raises(ExportError, match=r"^code_planner\.decoder\.rope_type: expected default, got longr"):
        decoder_graph(network.decoder, network.head, CAPACITY)
    rope["rope_type"] = "default"
    network.decoder.config.hidden_act = "gelu"
    with pytest.raises(ExportError, match=r"^code_planner\.decoder\.hidden_act: expected silu, got gelu$"):
        decoder_graph(network.decoder, network.head, CAPACITY)


def test_a_picture_resized_inside_has_no_graph(tmp_path: Path) -> None:
    """LLaVA resizes pictures of another size; no operator does that as torch does."""
    from keystep.models.observing import camera_feature

    changes = small_llava(False) | {"observation": (camera_feature("base", 64, 64),)}
    with pytest.raises(
        ExportError, match=r"^code_planner\.observation: .* expected 32 x 32, .* got 64 x 64$"
    ):
        vision_graph(planner(**changes))
