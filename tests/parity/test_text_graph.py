"""torch = ONNX: every text encoder with its tokeniser, from a string to the planner's goal embedding."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
import tiny_text  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from keystep.export.text import EXTENSIONS, text_graph, tokenizer_nodes  # noqa: E402
from keystep.models.text import TextEncoder, load_text_encoder  # noqa: E402
from keystep.suites.franka3blocks.instructions import held_out  # noqa: E402

KINDS = ("corpus", "clip", "t5", "minilm")
SAID = ("lift_green", "push_red_left", "stack")
EMBEDDING = 16
ODD = [
    "",
    " ",
    "!!!",
    "Lift the RED block!",
    "lift the red blockhead",
    "don't stop -- it's now's: 2x4 (ok)?",
    "  two  spaces\tand\nlines\r\n",
    "Hebe den grünen Würfel — schnell, ÄÖÜ ß",
    "\U0001f600red\U0001f600 block \U0001f916",
    "\u0130 \u017f \u212a \ufb01 \u2028red\u00a0block\u200b\ufeff a\u0301",
    "積み木 を 押す",
    "<|endoftext|> [SEP] </s> <unk> [UNK] <pad> lift",
    "lift " * 40,
    "x" * 300,
    "y" * 10_000,
]


class FakePlanner(nn.Module):
    """What `text_graph` needs of a planner: tokens [B, T, D] -> [B, E], no two tokens alike."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(width, EMBEDDING), nn.Linear(tokens, 1)

    def goal(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(tokens)).transpose(1, 2)).squeeze(-1)


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory) -> tuple[TextEncoder, FakePlanner, Path]:
    """An encoder, a planner, and their guided text graph."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "corpus":
        encoder = load_text_encoder()
    else:
        pytest.importorskip("onnxruntime_extensions")
        tiny_text.WRITERS[request.param](folder / "model")
        encoder = load_text_encoder(folder / "model")
    torch.manual_seed(0)
    planner = FakePlanner(encoder.width, encoder.tokens)
    text_graph(encoder, planner, True, folder / "text.onnx")
    return encoder, planner, folder / "text.onnx"


def session(path: Path, *also: str) -> onnxruntime.InferenceSession:
    """The graph on ONNX Runtime, with further tensors of it as outputs."""
    model = onnx.load(path)
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in also
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    if EXTENSIONS in {entry.domain for entry in model.opset_import}:
        import onnxruntime_extensions

        settings.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def run(graph: onnxruntime.InferenceSession, text: str) -> list[np.ndarray]:
    return graph.run(None, {"text": np.array([text], dtype=object)})


def random_sentences(seed: int, count: int) -> list[str]:
    """Words of the corpus in any order, and characters of any kind between and in them."""
    rng = random.Random(seed)
    words = [word for task in SAID for text in held_out(task)[::7] for word in text.split()]
    letters = "abcxyzABCXYZ0189 .,;:!?'\"()-_/<>|[]@#\t\n" + "äÖßéñ—“”…\u00a0\u200b\u0301中\U0001f600"
    made = []
    for _ in range(count):
        parts = rng.choices(words, k=rng.randint(0, 12))
        parts += ["".join(rng.choices(letters, k=rng.randint(1, 8))) for _ in range(rng.randint(0, 5))]
        rng.shuffle(parts)
        made.append(rng.choice([" ", " ", ""]).join(parts))
    return made


def test_tokens_and_goal_are_those_of_torch(case) -> None:
    encoder, planner, path = case
    graph = session(path, "text/ids", "text/mask")
    for text in [*ODD, *random_sentences(1, 60), *(held_out(task)[0] for task in SAID)]:
        goal, ids, mask = run(graph, text)
        for got, want in zip((ids, mask), encoder.tokenize([text]), strict=True):
            np.testing.assert_array_equal(got, want.numpy(), err_msg=repr(text))
        tokens = encoder.encode([text])
        with torch.no_grad():
            want = planner.goal(torch.cat([tokens, torch.zeros_like(tokens)])).numpy()
        np.testing.assert_allclose(goal, want, atol=1e-5, rtol=0, err_msg=repr(text))


def test_goal_tells_sentences_apart(case) -> None:
    """Row 0 depends on the text; row 1, the null row of guidance, does not."""
    graph = session(case[2])
    first, second = (run(graph, text)[0] for text in ("Lift the red block.", "Push the green block left."))
    assert np.abs(first[0] - second[0]).max() > 1e-4
    np.testing.assert_array_equal(first[1], second[1])


def test_interface(case) -> None:
    graph = session(case[2])
    (text,), (goal,) = graph.get_inputs(), graph.get_outputs()
    assert (text.name, text.type, text.shape) == ("text", "tensor(string)", [1])
    assert (goal.name, goal.type, goal.shape) == ("goal_text", "tensor(float)", [2, EMBEDDING])
    domains = {node.domain for node in onnx.load(case[2]).graph.node}
    assert (EXTENSIONS in domains) == (case[0].kind != "corpus")


def test_without_guidance_there_is_one_row(case, tmp_path: Path) -> None:
    encoder, planner, path = case
    text_graph(encoder, planner, False, tmp_path / "text.onnx")
    graph = session(tmp_path / "text.onnx")
    assert graph.get_outputs()[0].shape == [1, EMBEDDING]
    np.testing.assert_allclose(run(graph, "Lift it.")[0], run(session(path), "Lift it.")[0][:1], atol=1e-6)


def test_graph_holds_no_path_of_this_machine(case) -> None:
    content = case[2].read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b"site-packages" not in content


def test_a_vocabulary_without_letters_is_refused(tmp_path: Path) -> None:
    tiny_text.write_minilm(tmp_path, letters=tiny_text.LETTERS.replace("q", ""))
    with pytest.raises(ValueError, match="all letters and digits in the vocabulary, not without q"):
        tokenizer_nodes(load_text_encoder(tmp_path))


def test_a_vocabulary_with_gaps_is_refused(tmp_path: Path) -> None:
    tiny_text.write_minilm(tmp_path, words=("##s", "red"))  # "##s" is there twice: its first id is nobody's
    with pytest.raises(ValueError, match="expected ids without gaps"):
        tokenizer_nodes(load_text_encoder(tmp_path))


def test_an_encoder_of_another_kind_is_refused() -> None:
    class Other(TextEncoder):
        def tokenize(self, texts):
            raise NotImplementedError

        def forward(self, ids, mask):
            raise NotImplementedError

        def settings(self):
            return {}

        def write_files(self, folder):
            raise NotImplementedError

    with pytest.raises(ValueError, match="expected one whose tokeniser is known, got Other"):
        tokenizer_nodes(Other())
