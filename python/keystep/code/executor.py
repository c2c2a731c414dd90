"""Runs code of the language against an API, line by line. Nothing runs of a text that the grammar refuses.

Source: From Code to Action, section 4.2: code replies of the planner are calls of the oracle's functions,
and `pose_dict` keeps poses over the whole episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from keystep.code.grammar import parse
from keystep.code.language import (
    ACTIONS,
    POSE_DICT,
    ActorList,
    AssignPose,
    Call,
    Expression,
    Literal,
    Name,
    PoseRef,
    Statement,
)
from keystep.code.outcome import CallResult, OracleError, Outcome

IDLE_CALLS = 256
"""Texts and calls of functions that may follow each other without a control step; many more than a text holds
or a task needs. Code that goes on so would never come to the end of its episode."""


class Api(Protocol):
    """Whatever gives the functions of the language a meaning. Actors and poses are its own values.

    Arguments come by name, optional ones only when the code gives them. Angles are in degrees. Queries raise
    OracleError when they have no answer; actions may, too, before they move anything.
    """

    def get_actor(self, name: str, actor_pos: tuple[int, int] | None = None) -> Any: ...
    def get_pose(self, actor: Any) -> Any: ...
    def free_space(self, actor: Any, near: tuple[int, int] | None = None) -> Any: ...
    def free_space_next_to(self, actor: Any, next_to_actor: Any, direction: str) -> Any: ...
    def rotate_z(self, pose: Any, angle: float) -> Any: ...
    def move3d(self, target: Any) -> CallResult: ...
    def pick(self, actor: Any) -> CallResult: ...
    def place(self, actor: Any, pose: Any) -> CallResult: ...
    def place_on(self, actor: Any, dest: Any) -> CallResult: ...
    def touch(self, actor: Any, push: bool = False, topple: bool = False) -> CallResult: ...
    def push(self, actor: Any, target_pose: Any) -> CallResult: ...
    def rotate(self, actor: Any, angle: float) -> CallResult: ...
    def throw(self, actor: Any, target: Any) -> CallResult: ...
    def topple_structure(self, actors: list[Any]) -> CallResult: ...
    def done(self) -> CallResult: ...


@dataclass(frozen=True)
class Result:
    """How a text ran.

    Attributes:
        outcome: SUCCESS when every line that was run succeeded.
        reason: "" on success, else "line 2, column 1: pick: the hand is not empty".
        line: where it stopped, from 1; None on success.
        calls: names of the actions that were started, in order, the one that failed included.
        steps: control steps of all calls together.
        interrupted: the last call was; the lines below it were not run.
        stored: keys of the poses that it has stored, in order.
    """

    outcome: Outcome
    reason: str = ""
    line: int | None = None
    calls: tuple[str, ...] = ()
    steps: int = 0
    interrupted: bool = False
    stored: tuple[str, ...] = ()


class Executor:
    """Runs one episode's key-steps. After IDLE_CALLS without a control step the next is a TIMEOUT.

    Attributes:
        api: what the functions do.
        pose_dict: poses stored so far, by key. Poses stored before a line that fails stay stored.
    """

    def __init__(self, api: Api, pose_dict: Mapping[str, Any] | None = None) -> None:
        self.api = api
        self.pose_dict: dict[str, Any] = dict(pose_dict or {})
        self._idle = 0  # calls, and texts, since the last control step

    def run(self, text: str) -> Result:
        """Parses all of a text, then executes it. Raises CodeError, and then nothing has been executed.

        What the API refuses ends the text as a FAILURE; its other exceptions are bugs and pass through.
        """
        return self.execute(parse(text))

    def execute(self, statements: tuple[Statement, ...]) -> Result:
        """Runs what `parse` found in a text, up to the first that does not succeed, or is interrupted."""
        run = _Run(self.api, self.pose_dict, self._idle)
        try:
            return run.text(statements)
        finally:
            self._idle = run.idle


@dataclass
class _Run:
    """Of one text: local names, and what has been called."""

    api: Api
    pose_dict: dict[str, Any]
    idle: int
    names: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    steps: int = 0

    def text(self, statements: tuple[Statement, ...]) -> Result:
        try:
            self._count_idle(statements[0] if statements else Literal(""))
            for statement in statements:
                if stopped := self._statement(statement):
                    return stopped
        except _Refused as refused:
            return self._stopped(refused.outcome, str(refused), refused.node)
        return self._succeeded()

    def _statement(self, statement: Statement) -> Result | None:
        """None when it succeeded."""
        if isinstance(statement, Call):
            return self._act(statement)
        value = self._value(statement.value)
        if isinstance(statement, AssignPose):
            self.pose_dict[statement.key] = value
            self.stored.append(statement.key)
        else:
            self.names[statement.name] = value
        return None

    def _act(self, call: Call) -> Result | None:
        result: CallResult = self._call(call)
        self.steps += result.steps
        self.idle = 0 if result.steps else self.idle
        if result.outcome is Outcome.SUCCESS:
            return self._succeeded(interrupted=True) if result.interrupted else None
        return self._stopped(result.outcome, f"{call.function}: {result.reason}", call)

    def _succeeded(self, interrupted: bool = False) -> Result:
        return self._result(Outcome.SUCCESS, interrupted=interrupted)

    def _stopped(self, outcome: Outcome, reason: str, node: Statement | Expression) -> Result:
        where = f"line {node.line}, column {node.column}: {reason}"
        return self._result(outcome, where, node.line)

    def _result(
        self, outcome: Outcome, reason: str = "", line: int | None = None, interrupted: bool = False
    ) -> Result:
        return Result(outcome, reason, line, tuple(self.calls), self.steps, interrupted, tuple(self.stored))

    def _call(self, call: Call) -> Any:
        arguments = {name: self._value(value) for name, value in call.arguments}
        self._count_idle(call)
        if call.function in ACTIONS:
            self.calls.append(call.function)
        try:
            return getattr(self.api, call.function)(**arguments)  # the grammar lets only names of API pass
        except OracleError as error:
            raise _Refused(call, f"{call.function}: {error}") from error

    def _count_idle(self, node: Statement | Expression) -> None:
        if self.idle >= IDLE_CALLS:
            raise _Refused(
                node, f"expected a control step within {IDLE_CALLS} calls, got none", Outcome.TIMEOUT
            )
        self.idle += 1

    def _value(self, expression: Expression) -> Any:
        match expression:
            case Literal(value):
                return value
            case Call():
                return self._call(expression)
            case Name(name):
                return self.names[name]
            case ActorList(items):
                return [self._value(item) for item in items]
            case PoseRef(key):
                if key not in self.pose_dict:
                    known = ", ".join(repr(name) for name in self.pose_dict) or "no key"
                    raise _Refused(expression, f"{POSE_DICT}: expected {known}, got {key!r}")
                return self.pose_dict[key]


class _Refused(Exception):
    """A value that could not be had, and where."""

    def __init__(
        self, node: Statement | Expression, problem: str, outcome: Outcome = Outcome.FAILURE
    ) -> None:
        super().__init__(problem)
        self.node, self.outcome = node, outcome
