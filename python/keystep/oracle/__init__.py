"""The teacher of code policies: a robot API that solves the tabletop suite, and the language of its calls.

    api.Oracle          the calls: get_actor, move3d, pick, place ...
    programs            what the oracle does in each task, as code
    episodes.play       an episode of it; demonstrations.demonstrate in the form of a dataset
    grammar, executor   generated code: parsed and checked, then interpreted; never eval or exec
    trace, dialogue     code traces, memory, and the planner's training texts
    questions           auxiliary questions about where objects are

Importing this loads no simulator.
"""

from keystep.oracle.executor import Executor, Result
from keystep.oracle.grammar import CodeError, parse
from keystep.oracle.outcome import CallResult, OracleError, Outcome

__all__ = ["CallResult", "CodeError", "Executor", "OracleError", "Outcome", "Result", "parse"]
