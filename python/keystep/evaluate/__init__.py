"""Success and speed of a policy, through the loop that is deployed. Simulators load when needed."""

from keystep.evaluate.profile import ProfileReport, profile
from keystep.evaluate.report import EvaluationReport, TaskResult, wilson_interval
from keystep.evaluate.rollout import Evaluation, Policy, evaluate

__all__ = [
    "Evaluation",
    "EvaluationReport",
    "Policy",
    "ProfileReport",
    "TaskResult",
    "evaluate",
    "profile",
    "wilson_interval",
]
