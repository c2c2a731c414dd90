"""The language that code policies are told in; no simulator.

language, values    the functions, their types, and what they take and give
grammar, executor   generated code: parsed and checked, then interpreted; never eval or exec
grid, questions     cells of the picture; auxiliary questions about where objects are
trace, dialogue     code traces, memory, and the planner's training texts
"""

from keystep.code.executor import Executor, Result
from keystep.code.grammar import CodeError, parse
from keystep.code.outcome import CallResult, OracleError, Outcome

__all__ = ["CallResult", "CodeError", "Executor", "OracleError", "Outcome", "Result", "parse"]
