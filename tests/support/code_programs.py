"""Random programs of the code language, with the calls that they must make; an API that writes calls down.

The programs are built from the table in this file, not from keystep's, and never read by keystep's parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from keystep.code.characters import MAX_LINES
from keystep.code.outcome import CallResult, OracleError, Outcome

QUERIES = {
    "actor": ("get_actor",),
    "pose": ("get_pose", "free_space", "free_space_next_to", "rotate_z"),
}
PARAMETERS: dict[str, dict[str, str]] = {
    "get_actor": {"name": "string", "actor_pos": "position?"},
    "get_pose": {"actor": "actor"},
    "free_space": {"actor": "actor", "near": "position?"},
    "free_space_next_to": {"actor": "actor", "next_to_actor": "actor", "direction": "direction"},
    "rotate_z": {"pose": "pose", "angle": "number"},
    "move3d": {"target": "actor|pose"},
    "pick": {"actor": "actor"},
    "place": {"actor": "actor", "pose": "pose"},
    "place_on": {"actor": "actor", "dest": "actor"},
    "touch": {"actor": "actor", "push": "bool?", "topple": "bool?"},
    "push": {"actor": "actor", "target_pose": "pose"},
    "rotate": {"actor": "actor", "angle": "number"},
    "throw": {"actor": "actor", "target": "actor|pose"},
    "topple_structure": {"actors": "actors"},
    "done": {},
}
ACTIONS = tuple(name for name in PARAMETERS if name not in (*QUERIES["actor"], *QUERIES["pose"]))
BRACKETS = 6

LETTERS = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\'\"")
STRINGS = st.sampled_from(["red cube", "blue hexagon", "left plate", "a;b # c", "(["]) | st.text(
    LETTERS, min_size=1, max_size=8
)
NUMBERS = st.integers(-400, 400) | st.floats(-1e3, 1e3).map(lambda value: round(value, 3) + 0.0)


@dataclass(frozen=True)
class Program:
    """Text; per statement the calls (function, arguments) that it makes, in order, and the pose it stores."""

    text: str
    calls: list[list[tuple[str, dict[str, Any]]]]
    stores: list[tuple[str, Any] | None]

    def poses(self, statements: int | None = None) -> dict[str, Any]:
        """What the first statements leave in `pose_dict`."""
        return dict(pair for pair in self.stores[:statements] if pair)


class Spy:
    """Implements `keystep.code.executor.Api`. Values are the calls that made them; one call may fail."""

    def __init__(self, fails_at: int | None = None, failure: CallResult | OracleError | None = None) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.fails_at, self.failure = fails_at, failure

    def __getattr__(self, function: str) -> Any:
        if function not in PARAMETERS:
            raise AttributeError(function)

        def called(**arguments: Any) -> Any:
            self.log.append((function, arguments))
            if self.fails_at == len(self.log) - 1:
                if isinstance(self.failure, CallResult) and function in ACTIONS:
                    return self.failure
                raise OracleError("it fails here")
            return CallResult(Outcome.SUCCESS, steps=3) if function in ACTIONS else value(function, arguments)

        return called


def value(function: str, arguments: dict[str, Any]) -> tuple:
    return (function, *sorted(arguments.items()))


@dataclass
class Builder:
    """Writes one statement after another. Expressions come as (text, value)."""

    draw: Any
    lines: list[str] = field(default_factory=list)
    calls: list[list[tuple[str, dict[str, Any]]]] = field(default_factory=list)
    stores: list[tuple[str, Any] | None] = field(default_factory=list)
    poses: dict[str, Any] = field(default_factory=dict)
    names: dict[str, tuple[str, Any]] = field(default_factory=dict)  # type and value

    def one_of(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def gap(self) -> str:
        return self.draw(st.sampled_from(["", "", "", "", " ", "  ", "\n", " # why (\n", "\n\n "]))

    def quoted(self, text: str) -> str:
        mark = self.one_of("'\"")
        return f"{mark}{text}{mark}"

    def call(self, function: str, brackets: int) -> tuple[str, Any]:
        given: dict[str, tuple[str, Any]] = {}
        for name, kind in PARAMETERS[function].items():
            if not kind.endswith("?") or (brackets > 1 and self.draw(st.booleans())):
                given[name] = self.expression(self.one_of(kind.rstrip("?").split("|")), brackets - 1)
        by_place = self.draw(st.integers(0, len(given)))
        by_place = min([by_place, *(i for i, name in enumerate(PARAMETERS[function]) if name not in given)])
        named = self.draw(st.permutations(list(given)[by_place:]))
        texts = [given[name][0] for name in list(given)[:by_place]]
        texts += [f"{name}{self.one_of(['=', ' = '])}{given[name][0]}" for name in named]
        arguments = {name: found for name, (_, found) in given.items()}
        self.calls[-1].append((function, arguments))
        comma = self.one_of(["", ","]) if texts else ""
        text = f"{function}({self.gap()}{(',' + self.gap()).join(texts)}{self.gap()}{comma})"
        return text, value(function, arguments)

    def expression(self, kind: str, brackets: int) -> tuple[str, Any]:
        known = [name for name, (other, _) in self.names.items() if other == kind]
        if known and self.draw(st.booleans()):
            name = self.one_of(known)
            return name, self.names[name][1]
        if kind == "pose" and self.poses and (brackets < 2 or self.draw(st.booleans())):
            key = self.one_of(self.poses)
            return f"pose_dict[{self.quoted(key)}]", self.poses[key]
        if kind in QUERIES:
            fitting = QUERIES[kind] if brackets > 2 else QUERIES[kind][:3]
            return self.call(self.one_of(fitting), brackets)
        if kind == "actors":
            parts = [self.expression("actor", brackets - 1) for _ in range(self.draw(st.integers(1, 3)))]
            inner = (", " + self.gap()).join(text for text, _ in parts)
            return f"[{inner}]", [found for _, found in parts]
        return self.literal(kind)

    def literal(self, kind: str) -> tuple[str, Any]:
        if kind == "string":
            text = self.draw(STRINGS)
            return self.quoted(text), text
        if kind == "direction":
            text = self.one_of(["left", "right", "front", "behind"])
            return self.quoted(text), text
        if kind == "number":
            number = self.draw(NUMBERS)
            return repr(number), number
        if kind == "bool":
            flag = self.draw(st.booleans())
            return repr(flag), flag
        assert kind == "position"
        cell = self.draw(st.tuples(st.integers(-1, 10), st.integers(-1, 10)))
        return f"({cell[0]},{self.gap()}{cell[1]})", cell

    def statement(self) -> None:
        self.calls.append([])
        self.stores.append(None)
        kind = self.one_of(["action", "action", "store", "name"])
        if kind == "action":
            text, _ = self.call(self.one_of(ACTIONS), BRACKETS)
        elif kind == "store":
            expression, found = self.expression("pose", BRACKETS)
            key = self.draw(STRINGS)
            text = f"pose_dict[{self.quoted(key)}]{self.one_of([' = ', '='])}{expression}"
            self.poses[key] = found
            self.stores[-1] = (key, found)
        else:
            of = self.one_of(["actor", "pose", "number", "string", "direction", "bool", "position", "actors"])
            expression, found = self.expression(of, BRACKETS)
            name = self.one_of(["a", "target_pose", "_x1", "Left"])
            text = f"{name} = {expression}"
            self.names[name] = (of, found)
        self.lines.append(text + self.one_of(["", "", "", "  # then", "\n# pick()", "\n"]))


@st.composite
def programs(draw: Any, max_statements: int = 5) -> Program:
    """Valid programs of 0 .. max_statements statements, spelled in all ways that the language allows."""
    builder = Builder(draw)
    for _ in range(draw(st.integers(0, max_statements))):
        builder.statement()
        if sum(map(len, builder.lines)) > 1200 or "\n".join(builder.lines).count("\n") > 16:
            break
    text = "\n".join(builder.lines)
    assume(text.count("\n") < MAX_LINES)  # a single statement may be spelled over more
    return Program(text, builder.calls, builder.stores)
