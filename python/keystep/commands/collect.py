"""keystep collect"""

from __future__ import annotations

import functools
from typing import Any

from keystep.record.collect import CollectReport, collect


@functools.wraps(collect)
def main(*arguments: Any, **options: Any) -> CollectReport:
    report = collect(*arguments, **options)
    attempts, successes = sum(report.attempts.values()), sum(report.successes.values())
    print(f"{report.episodes} episodes in the dataset; {successes} of {attempts} attempts succeeded")
    return report
