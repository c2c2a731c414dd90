"""Reads code text into a tree, or refuses it with position and reason. Nothing is executed here.

The code language is a small piece of Python: a line calls one action, stores a pose in `pose_dict`, or names
a value. `keystep.code.language` lists functions and tree; `keystep.code.characters` says what
text may hold at all. What Python's parser finds in it is checked against the table of functions, types
included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NoReturn

from keystep.code.characters import MAX_CHARACTERS, CodeError, python_tree
from keystep.code.language import (
    API,
    POSE_DICT,
    ActorList,
    AssignLocal,
    AssignPose,
    Call,
    Expression,
    Function,
    Literal,
    Name,
    Parameter,
    PoseRef,
    Statement,
    Type,
    format_statements,
)

__all__ = ["API", "POSE_ASSIGNMENT", "CodeError", "Statement", "format_statements", "parse"]

MAX_STRING = 64
MAX_NUMBER = 1e6

POSE_ASSIGNMENT = re.compile(r"""^pose_dict *\[ *(?:'[^'\n]*'|"[^"\n]*") *\] *=(?!=)""", re.MULTILINE)
"""The beginning of a line that stores a pose; the only spelling that `parse` accepts."""


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a text; () when it holds comments and blank lines only. Raises CodeError."""
    tree = python_tree(text)
    reader = _Reader(text)
    statements = tuple(reader.statement(node) for node in tree.body)
    if (characters := len(format_statements(statements))) > MAX_CHARACTERS:
        expected = f"at most {MAX_CHARACTERS} characters in the form that format_statements writes"
        raise CodeError(1, 1, f"expected {expected}, got {characters}")
    return statements


def _refuse(node: Any, expected: str, got: str) -> NoReturn:
    raise CodeError(node.lineno, node.col_offset + 1, f"expected {expected}, got {got}")


def _kind(node: ast.AST) -> str:
    """Python's name of a piece of syntax in words: ListComp is a list comp."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()


class _Reader:
    """Turns Python's tree into ours. Knows the types of the local names assigned so far."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._locals: dict[str, tuple[Expression, Type]] = {}
        self._readers: dict[type, Callable[[Any], tuple[Expression, Type]]] = {
            ast.Call: self._query,
            ast.Constant: self._constant,
            ast.UnaryOp: self._negative,
            ast.Tuple: self._position,
            ast.List: self._actors,
            ast.Name: self._name,
            ast.Subscript: self._pose,
        }

    def statement(self, node: ast.stmt) -> Statement:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = self._function(node.value)
            if not function.is_action:
                _refuse(
                    node, "an action call or an assignment", f"{function.name}(..), whose value is unused"
                )
            return self._call(node.value, function)
        if isinstance(node, ast.Assign):
            return self._assignment(node)
        found = node.value if isinstance(node, ast.Expr) else node
        _refuse(node, "an action call or an assignment", _kind(found))

    def _assignment(self, node: ast.Assign) -> AssignPose | AssignLocal:
        place: dict[str, int] = {"line": node.lineno, "column": node.col_offset + 1}
        if len(node.targets) != 1:
            _refuse(node.targets[1], "one target", f"{len(node.targets)} targets")
        target = node.targets[0]
        if isinstance(target, ast.Subscript):
            if not POSE_ASSIGNMENT.match(self._lines[node.lineno - 1]):
                _refuse(target, f"{POSE_DICT}['key'] = .. or name = ..", "another target")
            value, _ = self._value(node.value, (Type.POSE,), f"value of {POSE_DICT}")
            return AssignPose(self._key(target), value, **place)
        if not isinstance(target, ast.Name) or target.col_offset != node.col_offset:
            _refuse(target, f"{POSE_DICT}['key'] = .. or name = ..", _kind(target))
        if target.id == POSE_DICT or target.id in API:
            _refuse(target, "a name that the language does not use", target.id)
        value, kind = self._value(node.value, tuple(Type), f"value of {target.id}")
        self._locals[target.id] = (self._known(value), kind)
        return AssignLocal(target.id, value, **place)

    def _known(self, value: Expression) -> Expression:
        """What a local name stands for, so that a string's text is known wherever it is used."""
        return self._locals[value.name][0] if isinstance(value, Name) else value

    def _value(self, node: ast.expr, types: tuple[Type, ...], of: str) -> tuple[Expression, Type]:
        reader = self._readers.get(type(node))
        if reader is None:
            _refuse(node, f"a value as {of}", _kind(node))
        value, kind = reader(node)
        if kind not in types:
            _refuse(node, f"{' or '.join(types)} as {of}", kind)
        return value, kind

    def _function(self, node: ast.Call) -> Function:
        if not isinstance(node.func, ast.Name):
            _refuse(node, "the name of a function", _kind(node.func))
        if node.func.id not in API:
            _refuse(node, f"one of {', '.join(API)}", node.func.id)
        return API[node.func.id]

    def _query(self, node: ast.Call) -> tuple[Expression, Type]:
        function = self._function(node)
        if function.result is None:
            _refuse(node, "a value", f"{function.name}(..), an action, which has none")
        return self._call(node, function), function.result

    def _call(self, node: ast.Call, function: Function) -> Call:
        given: dict[str, Expression] = {}
        names = {parameter.name: parameter for parameter in function.parameters}
        if len(node.args) > len(names):
            _refuse(node.args[len(names)], f"at most {len(names)} arguments of {function.name}", "more")
        for parameter, value in zip(function.parameters, node.args, strict=False):
            given[parameter.name] = self._argument(value, function, parameter)
        for keyword in node.keywords:
            if keyword.arg not in names:
                got = keyword.arg or "**"
                _refuse(keyword, f"a parameter of {function.name} ({', '.join(names) or 'none'})", got)
            if keyword.arg in given:
                _refuse(keyword, f"{keyword.arg} once", "it again")
            given[keyword.arg] = self._argument(keyword.value, function, names[keyword.arg])
        for parameter in function.parameters:
            if parameter.required and parameter.name not in given:
                _refuse(node, f"{function.name} with {parameter.name}", "none")
        arguments = tuple((name, given[name]) for name in names if name in given)
        return Call(function.name, arguments, line=node.lineno, column=node.col_offset + 1)

    def _argument(self, node: ast.expr, function: Function, parameter: Parameter) -> Expression:
        of = f"{parameter.name} of {function.name}"
        value, _ = self._value(node, parameter.types, of)
        if parameter.choices:
            known = self._known(value)
            text = known.value if isinstance(known, Literal) else None
            if text not in parameter.choices:
                _refuse(node, f"one of {', '.join(parameter.choices)} as {of}", repr(text))
        return value

    def _constant(self, node: ast.Constant) -> tuple[Literal, Type]:
        return self._literal(node, node.value)

    def _negative(self, node: ast.UnaryOp) -> tuple[Literal, Type]:
        value = node.operand.value if isinstance(node.operand, ast.Constant) else None
        if not isinstance(node.op, ast.USub) or type(value) not in (int, float):
            _refuse(node, "a value", _kind(node.op))
        return self._literal(node, -value)  # type: ignore[operator]

    def _literal(self, node: ast.expr, value: object) -> tuple[Literal, Type]:
        line, column = node.lineno, node.col_offset + 1
        if isinstance(value, bool):
            return Literal(value, line=line, column=column), Type.BOOL
        if isinstance(value, str):
            if not 1 <= len(value) <= MAX_STRING:
                _refuse(node, f"a string of 1 to {MAX_STRING} characters", f"{len(value)}")
            if "'" in value and '"' in value:
                _refuse(node, "a string with one kind of quotes inside", "both")
            return Literal(value, line=line, column=column), Type.STRING
        if isinstance(value, int | float):
            if not abs(value) <= MAX_NUMBER:
                _refuse(node, f"a number of at most {MAX_NUMBER:g}", "a larger one")
            return Literal(value, line=line, column=column), Type.NUMBER
        _refuse(node, "a value", type(value).__name__)

    def _position(self, node: ast.Tuple) -> tuple[Literal, Type]:
        values = tuple(self._value(item, (Type.NUMBER,), "part of a position")[0] for item in node.elts)
        numbers = tuple(value.value for value in values if isinstance(value, Literal))
        if len(values) != 2 or len(numbers) != 2 or any(type(number) is not int for number in numbers):
            _refuse(node, "a position: two whole numbers (column, row)", "another tuple")
        position = (int(numbers[0]), int(numbers[1]))  # type: ignore[arg-type]
        return Literal(position, line=node.lineno, column=node.col_offset + 1), Type.POSITION

    def _actors(self, node: ast.List) -> tuple[ActorList, Type]:
        if not node.elts:
            _refuse(node, "at least one actor in the list", "none")
        items = tuple(self._value(item, (Type.ACTOR,), "item of a list")[0] for item in node.elts)
        return ActorList(items, line=node.lineno, column=node.col_offset + 1), Type.ACTORS

    def _name(self, node: ast.Name) -> tuple[Name, Type]:
        if node.id not in self._locals:
            _refuse(node, "a name that an earlier line assigned", node.id)
        return Name(node.id, line=node.lineno, column=node.col_offset + 1), self._locals[node.id][1]

    def _pose(self, node: ast.Subscript) -> tuple[PoseRef, Type]:
        key = self._key(node)
        return PoseRef(key, line=node.lineno, column=node.col_offset + 1), Type.POSE

    def _key(self, node: ast.Subscript) -> str:
        if not isinstance(node.value, ast.Name) or node.value.id != POSE_DICT:
            _refuse(node, f"{POSE_DICT}['key']", "something else in front of '['")
        value = self._readers[type(node.slice)](node.slice)[0] if type(node.slice) is ast.Constant else None
        if not isinstance(value, Literal) or not isinstance(value.value, str):
            _refuse(node.slice, f"a string as key of {POSE_DICT}", _kind(node.slice))
        return value.value
