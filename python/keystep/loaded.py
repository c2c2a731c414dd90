"""What a `Runtime` and a `CodeRuntime` have in common, whatever they compute."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any, Self

from keystep import _core
from keystep.latency import LatencyReport
from keystep.manifests import parsed
from keystep.tracing import TraceReport, TraceWarning


class Loaded:
    """A session on a bundle that is loaded.

    Args:
        core: what computes.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._manifest: dict[str, Any] = parsed(core.manifest_json)

    def latency(self) -> LatencyReport:
        """Latency per stage since loading or `reset_latency`; PolicyError "busy" while another is inside.

        Of a planner that writes, stage `plan` are questions, `tick` control steps.
        """
        return LatencyReport.from_dict(self._core.latency())

    def reset_latency(self) -> None:
        """Measure and count from now on."""
        self._core.reset_latency()

    def trace_report(self) -> TraceReport | None:
        """What is in the trace so far, of all sessions; None without one."""
        tracer = self._core.tracer
        return None if tracer is None else TraceReport(**tracer.report())

    def close(self) -> None:
        """Free the engine, unless other sessions use it; once more does nothing. Nothing in a forked child.

        Warns:
            TraceWarning: the trace is not complete.
        """
        was_closed = self._core.closed
        self._core.close()
        if not was_closed and (report := self.trace_report()) is not None and report.incomplete:
            warnings.warn(report.incomplete, TraceWarning, stacklevel=2)

    @property
    def manifest(self) -> dict[str, Any]:
        """The bundle's manifest.json, see docs/bundle.md, of the family code docs/code_bundle.md."""
        return self._manifest

    @property
    def description(self) -> str:
        """Engines, provider and threads, e.g. "onnxruntime 1.31.1, cpu, 2 threads"."""
        return self._core.engine_description

    @property
    def engine_choices(self) -> list[dict[str, str]]:
        """Of each graph in use: its `file`, the `engine` that runs it, and the `reason`."""
        return self._core.engine_choices

    def _engine_or_state(self) -> str:
        """For `repr`: the engine, or why there is none any more."""
        try:
            self._core.check_usable()
        except _core.PolicyError as error:
            return error.status
        return self._core.engine_description

    def __enter__(self) -> Self:
        self._core.check_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
