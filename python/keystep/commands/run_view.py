"""What `keystep run` prints while an episode runs: live in a terminal, else line by line."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from keystep.code.executor import Result
from keystep.code.trace import is_keystep
from keystep.commands.run_record import RUNNING, EpisodeRecord, KeyStepRun, reply_times
from keystep.suites.tabletop.oracle.replies import Watcher, Written

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

NEW_STEPS = 10
"""So long a new key-step stands out: one control step is too short to see."""
MOST_CHARACTERS = 400
"""That are shown of a reply that is refused."""


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def ended_text(one: KeyStepRun) -> str:
    """How a key-step ended."""
    text = f"{one.outcome} after {counted(one.steps, 'step')}"
    return f"{text}: {one.reason}" if one.reason else text


def written_text(one: KeyStepRun) -> str:
    """What its reply took."""
    passes = f"{one.passes} pass{'es' * (one.passes != 1)}"
    return f"step {one.step}, written in {one.ms:.1f} ms, {passes}"


def verdict(record: EpisodeRecord) -> str:
    """How an episode ended."""
    found = "solved" if record.success else "not solved"
    if record.episode is None:
        found = "interrupted"
    text = f"{found} after {counted(record.steps, 'control step')} ({record.seconds:.1f} s)"
    text += f", {counted(record.calls, 'call')}"
    return f"{text}; {record.reason}" if record.reason else text


def times_text(record: EpisodeRecord) -> str:
    """What replies took."""
    times = reply_times(record.reply_ms, record.reply_passes)
    if not times["count"]:
        return "replies: none"
    ms = f"median {times['median_ms']:.1f} ms, p99 {times['p99_ms']:.1f} ms"
    passes = "" if times["median_passes"] is None else f"{times['median_passes']:g} (median)"
    return f"replies: {times['count']}, {ms}, passes of the decoder {passes or 'not known'}"


def memory_text(record: EpisodeRecord) -> str:
    """What the planner remembers."""
    poses = f"; poses {', '.join(record.poses)}" if record.poses else ""
    return f"memory: {counted(len(record.key_steps), 'key-step')}{poses}"


def running_now(record: EpisodeRecord) -> list[KeyStepRun]:
    """Two when the next one came before the one that runs has ended."""
    return [one for one in list(record.key_steps) if one.outcome == RUNNING]


def last_ended(record: EpisodeRecord) -> KeyStepRun:
    return [one for one in record.key_steps if one.outcome != RUNNING][-1]


class View(Watcher):
    """Shows nothing but how episodes end. A context: of one episode."""

    def __init__(self, record: EpisodeRecord) -> None:
        self.record = record

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        print(f"# {self._title}: {verdict(self.record)}")

    @property
    def _title(self) -> str:
        return f"{self.record.task}, seed {self.record.seed}"


def as_one_text(code: str) -> str:
    """The same code without blank lines, which part the key-steps of a file."""
    return "\n".join(line for line in code.split("\n") if line.strip())


class PlainView(View):
    """Lines that are a file of code themselves: `keystep oracle --code` runs it again.

    Args:
        grid: in whose cells the code says places.
    """

    def __init__(self, record: EpisodeRecord, grid: int) -> None:
        super().__init__(record)
        self._grid = grid

    def began(self, prompt: str) -> None:
        one = f"--tasks {self.record.task} --seed {self.record.seed} --grid {self._grid}"
        print(f"# {self._title}: {prompt}\n# again: keystep oracle {one} --code FILE\n", flush=True)

    def replied(self, reply: Written, ms: float) -> None:
        running = running_now(self.record)
        if is_keystep(reply.text) and len(running) == 1:  # else the one before is told to its end first
            self._print(running[0])

    def _print(self, one: KeyStepRun) -> None:
        print(f"{as_one_text(one.code)}\n# {written_text(one)}", flush=True)

    def refused(self, text: str, problem: str) -> None:
        shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
        print(f"# refused: {shown!a}", flush=True)

    def ended(self, result: Result) -> None:
        print(f"# {ended_text(last_ended(self.record))}\n", flush=True)
        for one in running_now(self.record):
            self._print(one)

    def __exit__(self, *what: Any) -> None:
        print(f"# {times_text(self.record)}\n# {memory_text(self.record)}\n# {verdict(self.record)}\n")


class LiveView(View):
    """Key-steps that ended scroll up; below them stands what runs now.

    Args:
        console: of a terminal.
    """

    def __init__(self, record: EpisodeRecord, console: Console) -> None:
        from rich.live import Live

        super().__init__(record)
        self._console = console
        self._live = Live(console=console, get_renderable=self._now, transient=True, refresh_per_second=10)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *what: Any) -> None:
        from rich.text import Text

        self._live.stop()
        for one in running_now(self.record):
            self._console.print(self._block(one))
        style = "bold green" if self.record.success else "bold red"
        self._console.print(Text(verdict(self.record), style))
        self._console.print(Text(f"{times_text(self.record)}\n{memory_text(self.record)}\n", "dim"))

    def began(self, prompt: str) -> None:
        from rich.text import Text

        self._console.print(Text.assemble((self._title, "dim"), "\n", (prompt, "bold"), "\n"))

    def refused(self, text: str, problem: str) -> None:
        from rich.text import Text

        shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
        self._console.print(Text(f"refused: {shown!a}", "red"))

    def ended(self, result: Result) -> None:
        self._live.refresh()  # it no longer runs
        self._console.print(self._block(last_ended(self.record)))

    def _now(self) -> Group:
        """What stands below; another thread asks for it."""
        from rich.console import Group
        from rich.text import Text

        record = self.record
        status = f"step {record.steps} ({record.seconds:.1f} s)  {memory_text(record)}\n{times_text(record)}"
        return Group(*map(self._block, running_now(record)), Text(status, "dim"))

    def _block(self, one: KeyStepRun) -> Text:
        """Its code, and what the executor says."""
        from rich.text import Text

        running = one.outcome == RUNNING
        new = running and self.record.steps - one.step < NEW_STEPS
        mark, style = ("> ", "bold black on yellow" if new else "bold yellow") if running else ("  ", "")
        lines = [(f"{mark}{line}\n", style) for line in one.code.splitlines()]
        told = "running" if running else ended_text(one)
        colour = {"success": "green", RUNNING: "yellow"}.get(one.outcome, "red")
        return Text.assemble(*lines, (f"  {told}", colour), (f"  {written_text(one)}", "dim"))


def view_of(record: EpisodeRecord, show: bool, console: Console, grid: int) -> View:
    if not show:
        return View(record)
    return LiveView(record, console) if console.is_terminal else PlainView(record, grid)
