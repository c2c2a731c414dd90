"""C++ allows what Python does of a constrained reply, token by token."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep import BundleError, _core
from keystep.code.constraint import Constraint, ReplyPlace
from keystep.code.language import API, Function, Parameter, Type
from keystep.code.pieces import PieceTokenizer
from keystep.code.tokenizer import SPECIALS, Tokenizer
from keystep.export.code_manifest import function_entry
from keystep.suites import suite_named
from keystep.suites.base import tokenizer

WORDS = tokenizer(suite_named("tabletop"), 32)
ODD = Tokenizer(
    ("ac('a", "'='", " = ", "a'", "0)", "1", "), ", "')]", "b", "'] = pose_dict['a", "true", "a", "d('")
)
# As of a language model: a space stands before texts, and inside of entries.
_OF_PIECES = [" ", "o", "n", "e", "#", " #", "(", ")", "'", "d", " do", "done", " done", "()", ", ", " get"]
_OF_PIECES += ["move3d", "=(", "1", " pose_dict['", "'] = ", " a b", "red cube", "\n", " \n", "é"]
PIECES = PieceTokenizer((*_OF_PIECES, " move3d(get_actor('red"))
_ANY = tuple(Type)
_SEVERAL: dict[str, Function] = {
    "ac": Function("ac", (Parameter("n", (Type.STRING,)),), Type.ACTOR),
    "act": Function("act", (Parameter("b", (Type.BOOL,), required=False),), Type.ACTOR),
    "tell": Function("tell", (Parameter("s", (Type.STRING,), choices=("a", "ab", 'a"b')),), Type.STRING),
    "do": Function("do", (Parameter("x", _ANY), Parameter("d", _ANY, required=False)), None),
    "done": Function("done", (), None),
}


def twin(words: Tokenizer, grid: int, api: dict[str, Function]) -> tuple[Constraint, _core.ConstrainedReply]:
    entries = json.dumps([function_entry(function) for function in api.values()])
    return Constraint(words, grid, api), _core.ConstrainedReply(json.dumps(words.to_dict()), entries, grid)


TABLES = {"tabletop": WORDS, "odd": ODD, "pieces": PIECES}
CASES = {
    "tabletop": twin(WORDS, 32, API),
    "odd": twin(ODD, 1, _SEVERAL),
    "pieces": twin(PIECES, 10, API),
}
BOTH = pytest.mark.parametrize("case", CASES)


@BOTH
@pytest.mark.parametrize("seed", range(8))
def test_a_walk(case: str, seed: int) -> None:
    """At every place what is allowed, with the tokens that are left and with any fewer."""
    slow, fast = CASES[case]
    words, rng = TABLES[case], random.Random(seed)
    assert slow.shortest == fast.shortest
    fast.restart()
    place: ReplyPlace = slow.start
    left = rng.choice([fast.shortest, 7, 20, 60])
    while True:
        for fewer in {left, rng.randrange(left + 1)}:
            assert fast.allowed(fewer) == slow.allowed(place, fewer)
        assert fast.complete == place.complete
        token = rng.choice(fast.allowed(left))
        left -= 1
        if token == words.end:
            return
        assert fast.advance(token)
        place = slow.after(place, token) or slow.start


@BOTH
@given(st.text("acdo()'\", =[]0123-.\n#tx", max_size=30) | st.binary(max_size=3), st.integers(0, 2**32))
@settings(deadline=None, max_examples=200)
def test_any_bytes_behind_a_reply(case: str, tail: str | bytes, seed: int) -> None:
    """Both go equally far in what is no code."""
    slow, fast = CASES[case]
    rng = random.Random(seed)
    fast.restart()
    place: ReplyPlace | None = slow.start
    for left in range(rng.randrange(30), 2, -1):
        tokens = fast.allowed(left + fast.shortest)
        token = rng.choice([token for token in tokens if token >= len(SPECIALS)])
        assert place and fast.advance(token)
        place = slow.after(place, token)
    for byte in tail.encode() if isinstance(tail, str) else tail:
        assert place
        following = slow.after(place, len(SPECIALS) + byte)
        assert fast.advance(len(SPECIALS) + byte) == (following is not None)
        place = following or place
        assert fast.complete == place.complete


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "pose_dict"}, r"^api\[0\].name: expected a name of 1 to 64 letters, .*, got .pose_dict.$"),
        ({"name": "a b"}, r"^api\[0\].name: expected a name of 1 to 64 letters, .*"),
        ({"result": "thing"}, r"^api\[0\].result: expected actor \| pose .*, got .thing.$"),
        ({"parameters": 3}, r"^api\[0\].parameters: expected an array, got 3$"),
        ({"more": 1}, r"^api\[0\].*more.*: expected "),
    ],
)
def test_tables_that_are_no_api(change: dict, message: str) -> None:
    entry = {"name": "go", "result": None, "parameters": [], **change}
    with pytest.raises(BundleError, match=message):
        _core.ConstrainedReply(json.dumps(WORDS.to_dict()), json.dumps([entry]), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": []}, r"parameters\[1\].types: expected at least one type"),
        ({"types": ["actor", "actor"]}, r"types\[1\]: expected each type once"),
        ({"name": "first"}, r"parameters\[1\].name: expected each parameter once"),
        ({"choices": ["it's"]}, r"choices\[0\]: expected 1 to 64 printable ASCII characters without '"),
        ({"types": ["actor"], "choices": ["a"]}, r"choices: expected none \(of a string alone there are\)"),
        ({"required": True}, r"parameters\[1\].required: expected optional parameters last, got true"),
    ],
)
def test_parameters_that_are_none(change: dict, message: str) -> None:
    first = {"name": "first", "types": ["bool"], "required": False, "choices": []}
    second = {"name": "second", "types": ["string"], "required": False, "choices": [], **change}
    entry = {"name": "go", "result": None, "parameters": [first, second]}
    with pytest.raises(BundleError, match=message):
        _core.ConstrainedReply(json.dumps(WORDS.to_dict()), json.dumps([entry]), 3)
