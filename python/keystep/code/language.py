"""The words of the code language: its functions as a table, and the tree that code is read into.

Source: From Code to Action, appendix C and figure 2; the functions' names are those of ClevrSkills' oracle.
`keystep.code.grammar` reads text into this tree, `keystep.code.executor` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

POSE_DICT = "pose_dict"
DIRECTIONS = ("left", "right", "front", "behind")


class Type(StrEnum):
    """Of a value. A position is a cell (column, row) of the grid over the base camera's picture."""

    ACTOR = "actor"
    POSE = "pose"
    NUMBER = "number"
    STRING = "string"
    BOOL = "bool"
    POSITION = "position"
    ACTORS = "list of actors"


@dataclass(frozen=True)
class Parameter:
    """Of a function.

    Attributes:
        name: as in keyword arguments.
        types: any of these.
        required: False when `default` takes its place.
        default: of an optional parameter.
        choices: the only values of a string; empty when any will do.
    """

    name: str
    types: tuple[Type, ...]
    required: bool = True
    default: bool | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """Of the API. `result` is None for an action: a statement of its own that moves the robot."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type | None = None

    @property
    def is_action(self) -> bool:
        return self.result is None


def _one(name: str, *types: Type) -> Parameter:
    return Parameter(name, types)


def _table(*functions: Function) -> dict[str, Function]:
    return {function.name: function for function in functions}


_ACTOR = _one("actor", Type.ACTOR)
_TARGET = _one("target", Type.ACTOR, Type.POSE)

API: dict[str, Function] = _table(
    Function(
        "get_actor",
        (_one("name", Type.STRING), Parameter("actor_pos", (Type.POSITION,), required=False)),
        Type.ACTOR,
    ),
    Function("get_pose", (_ACTOR,), Type.POSE),
    Function("free_space", (_ACTOR, Parameter("near", (Type.POSITION,), required=False)), Type.POSE),
    Function(
        "free_space_next_to",
        (
            _ACTOR,
            _one("next_to_actor", Type.ACTOR),
            Parameter("direction", (Type.STRING,), choices=DIRECTIONS),
        ),
        Type.POSE,
    ),
    Function("rotate_z", (_one("pose", Type.POSE), _one("angle", Type.NUMBER)), Type.POSE),
    Function("move3d", (_TARGET,)),
    Function("pick", (_ACTOR,)),
    Function("place", (_ACTOR, _one("pose", Type.POSE))),
    Function("place_on", (_ACTOR, _one("dest", Type.ACTOR))),
    Function(
        "touch",
        (
            _ACTOR,
            Parameter("push", (Type.BOOL,), required=False, default=False),
            Parameter("topple", (Type.BOOL,), required=False, default=False),
        ),
    ),
    Function("push", (_ACTOR, _one("target_pose", Type.POSE))),
    Function("rotate", (_ACTOR, _one("angle", Type.NUMBER))),
    Function("throw", (_ACTOR, _TARGET)),
    Function("topple_structure", (_one("actors", Type.ACTORS),)),
    Function("done", ()),
)
"""Every function by name; angles in degrees, anticlockwise from above."""

ACTIONS: tuple[str, ...] = tuple(name for name, function in API.items() if function.is_action)
QUERIES: tuple[str, ...] = tuple(name for name, function in API.items() if not function.is_action)


@dataclass(frozen=True)
class _Node:
    """A piece of code. Line and column count from 1 and do not matter to equality."""

    line: int = field(default=1, kw_only=True, compare=False)
    column: int = field(default=1, kw_only=True, compare=False)


@dataclass(frozen=True)
class Literal(_Node):
    """A position is a pair of ints."""

    value: str | int | float | bool | tuple[int, int]


@dataclass(frozen=True)
class Name(_Node):
    """A local name that is read."""

    name: str


@dataclass(frozen=True)
class PoseRef(_Node):
    """`pose_dict['key']` that is read."""

    key: str


@dataclass(frozen=True)
class ActorList(_Node):
    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Call(_Node):
    """Of a function in API. Arguments are (parameter, value) in the order of the table, given ones only."""

    function: str
    arguments: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class AssignPose(_Node):
    """`pose_dict['key'] = value`."""

    key: str
    value: Expression


@dataclass(frozen=True)
class AssignLocal(_Node):
    """`name = value`."""

    name: str
    value: Expression


Expression = Literal | Name | PoseRef | ActorList | Call
Statement = Call | AssignPose | AssignLocal


def format_statements(statements: tuple[Statement, ...]) -> str:
    """Canonical text, a line per statement: required arguments by place, optional ones by name.

    `parse` reads it back as the same tree. It can be longer than the text that was read, by a name for each
    optional argument; `parse` refuses text for which it would be too long.
    """
    return "\n".join(_statement_text(statement) for statement in statements)


def _statement_text(statement: Statement) -> str:
    match statement:
        case AssignPose(key, value):
            return f"{POSE_DICT}[{key!r}] = {_expression_text(value)}"
        case AssignLocal(name, value):
            return f"{name} = {_expression_text(value)}"
        case _:
            return _expression_text(statement)


def _expression_text(expression: Expression) -> str:
    match expression:
        case Literal(value):
            return repr(value)
        case Name(name):
            return name
        case PoseRef(key):
            return f"{POSE_DICT}[{key!r}]"
        case ActorList(items):
            return f"[{', '.join(_expression_text(item) for item in items)}]"
        case Call(function, arguments):
            required = {parameter.name for parameter in API[function].parameters if parameter.required}
            texts = (
                _expression_text(value) if name in required else f"{name}={_expression_text(value)}"
                for name, value in arguments
            )
            return f"{function}({', '.join(texts)})"
