"""The instruction corpus, and the words that the default text encoder makes of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from keystep.models.text import load_text_encoder
from keystep.models.text.words import PADDING, START, UNKNOWN, Vocabulary, split_words
from keystep.suites.franka3blocks import TASKS, instructions
from keystep.suites.franka3blocks.instructions import held_out, phrasings


def test_the_corpus_is_the_one_that_the_shipped_encoder_was_trained_on() -> None:
    """Whoever changes the corpus trains the encoder anew, and every planner that reads it."""
    by_kind = {name: [text for kind in range(3) for text in held_out(name)[kind::3]] for name in TASKS}
    said = [[name, phrasings(name), by_kind[name]] for name in TASKS]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    assert digest == "ee2cadf92742c30cb96f710b5108b36d18d1e7ce49372a96cc718b6668c2d9b4"
    words = {word for _, texts, _ in said for text in texts for word in split_words(text)}
    assert load_text_encoder().vocabulary.words == tuple(sorted(words))


def test_every_task_is_said_in_many_ways() -> None:
    owner: dict[str, str] = {}
    for name, task in TASKS.items():
        sentences = phrasings(name)
        assert sentences[0] == task.instruction
        assert len(set(sentences)) == len(sentences) == instructions.PHRASINGS_PER_TASK
        assert len(set(held_out(name))) == len(held_out(name)) == 60
        for sentence in (*sentences, *held_out(name)):
            assert owner.setdefault(sentence, name) == name  # no sentence means two tasks
    training = {sentence for name in TASKS for sentence in phrasings(name)}
    assert not training & {sentence for name in TASKS for sentence in held_out(name)}


def test_held_out_choices_never_occur_in_training() -> None:
    training = {" ".join(split_words(text)) for name in TASKS for text in phrasings(name)}
    for beginning in ("would you kindly", "next", "i need you", "try to", "hey"):
        assert not any(text.startswith(beginning) for text in training)
    for part in ("up high", "get the", "then", "use two", "sit on"):
        assert not any(part in text for text in training)
    combinations = [
        f"{verb} the {colour} {thing}"
        for verb in instructions.VERBS["lift"]
        for colour in instructions.COLOURS["red"]
        for thing in instructions.THINGS
        if instructions._is_held_out({"verb": verb, "colour": colour, "thing": thing})
    ]
    assert len(combinations) >= 10
    assert not any(part in text for part in combinations for text in training)


def test_the_corpus_needs_neither_simulator_nor_torch() -> None:
    loaded = "{'sapien', 'mani_skill', 'torch'} & set(sys.modules)"
    program = f"import sys, keystep.suites.franka3blocks.instructions; print({loaded})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(KeyError, match="juggle"):
        phrasings("juggle")


# ---- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Lift the RED block!", ["lift", "the", "red", "block"]),
        ("", []),
        ("?!", []),
        ("don't\tstop\n2x", ["don", "t", "stop", "2x"]),
        ("Grüne\u00a0Box \U0001f600block", ["gr", "ne", "box", "block"]),
        ("\u212aelvin \u0130", ["elvin"]),  # lower case of these would be ASCII in Unicode
    ],
)
def test_split_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_vocabulary_ids() -> None:
    vocabulary = Vocabulary.of(["Lift the block.", "the box"])
    assert vocabulary.words == ("block", "box", "lift", "the")
    assert len(vocabulary) == 7
    assert vocabulary.ids("LIFT the purple box", 7) == [START, 5, 6, UNKNOWN, 4, PADDING, PADDING]
    assert vocabulary.ids("lift " * 9, 3) == [START, 5, 5]
    assert vocabulary.ids("", 2) == [START, PADDING]


@pytest.mark.parametrize("words", [["a", "a"], ["two words"], ["Upper"], [""], ["grün"]])
def test_vocabulary_refuses_what_it_would_never_find(words: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(words)
