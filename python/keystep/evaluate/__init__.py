"""Success and speed of a policy, through the loop that is deployed. Simulators load when needed."""

from keystep.evaluate.chains import ChainReport
from keystep.evaluate.cross import CrossReport, cross
from keystep.evaluate.profile import ProfileReport, profile
from keystep.evaluate.protocols import evaluate, evaluate_chains
from keystep.evaluate.report import EvaluationReport, TaskResult
from keystep.evaluate.rollout import Policy
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.uncertainty import standard_error, wilson_interval

__all__ = [
    "ChainReport",
    "CrossReport",
    "EpisodeResult",
    "Evaluation",
    "EvaluationReport",
    "Policy",
    "ProfileReport",
    "TaskResult",
    "cross",
    "evaluate",
    "evaluate_chains",
    "profile",
    "standard_error",
    "wilson_interval",
]
