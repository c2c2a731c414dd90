"""Soaks: the checker finds what is wrong with a stream of actions, and the loop gives it nothing to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import keystep
from keystep import cli
from keystep.evaluate import soak as soak_module
from keystep.evaluate.soak import Player, Soak, soak
from keystep.evaluate.soak_checker import Checker, Law, SoakTick, ViolationError
from keystep.evaluate.soak_report import ScheduleResult
from keystep.evaluate.soak_schedule import Disturbances, Schedule, StandIn, draw_schedule

CALM = Disturbances(0, 0, 0, 0, 0, 0, 1)
SETTINGS = {
    "horizon": 8,
    "execute": 4,
    "steps_per_subgoal": 10,
    "history": 1,
    "holds_last": False,
    "max_delay": 0,
}


def schedule(kind="marked", disturbances=CALM, faults=None, **load: Any) -> Schedule:
    marks = {} if kind == "gated" else {"marks": 1}
    return Schedule(
        seed=5,
        stand_in=StandIn(kind, SETTINGS),
        load={"merge": "replace", "underrun": "hold", "engine": "stub"} | load,
        time=keystep.VirtualTime(chunk=(3.0, 1.5, 6.0, 20.0), plan=(4.0,)),
        faults=marks | (faults or {}),
        disturbances=disturbances,
        interrupter=False,
        patience=400,
    )


def play(drawn: Schedule, ticks: int = 600) -> ScheduleResult:
    player = Player(drawn, Soak(None, "stub", drawn.seed, 1, ticks))
    assert player.play(lambda ticks: None), player.result.violation
    return player.result


class Recording:
    """What a checker was told while a schedule was played."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, drawn: Schedule) -> None:
        self.calls: list[tuple[str, Any]] = []
        calls, recording = self.calls, self

        class Recorder(Checker):
            def __init__(self, law: Law, first: Any) -> None:
                super().__init__(law, first)
                recording.law, recording.first = law, first
                calls.clear()  # of the reset within

            def reset(self) -> None:
                calls.append(("reset", {}))
                super().reset()

            def interrupt(self, newest: Any = None, goals: Any = None) -> None:
                calls.append(("interrupt", {"newest": newest, "goals": goals}))
                super().interrupt(newest, goals)

            def tick(self, now: SoakTick) -> None:
                calls.append(("tick", {"now": now}))
                super().tick(now)

        with monkeypatch.context() as patch:
            patch.setattr(soak_module, "Checker", Recorder)
            play(drawn)
        self.law: Law
        self.first: Any

    def ticks(self, wanted: Callable[[SoakTick], bool]) -> list[int]:
        """Where ticks of this kind are."""
        return [i for i, (name, call) in enumerate(self.calls) if name == "tick" and wanted(call["now"])]

    def change(self, at: int, **changes: Any) -> None:
        self.calls[at] = ("tick", {"now": replace(self.calls[at][1]["now"], **changes)})

    def now(self, at: int) -> SoakTick:
        tick: SoakTick = self.calls[at][1]["now"]
        return tick

    def check(self) -> None:
        checker = Checker(self.law, self.first)
        for name, call in self.calls:
            getattr(checker, name)(**call)

    def refused(self, invariant: str) -> None:
        with pytest.raises(ViolationError) as caught:
            self.check()
        assert caught.value.invariant == invariant, caught.value


def acted(now: SoakTick) -> bool:
    return now.action is not None and now.action[0] >= 0


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Recording:
    recording = Recording(monkeypatch, schedule(disturbances=replace(CALM, interrupt=0.03, reset=0.005)))
    recording.check()
    return recording


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Recording:
    recording = Recording(monkeypatch, schedule("gated"))
    recording.check()
    return recording


# ---- a broken stream is refused --------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "invariant"), [(-1, "twice"), (1, "skipped")])
def test_an_action_of_another_index(marked, shift, invariant):
    at = marked.ticks(acted)[50]
    marked.change(at, action=marked.now(at).action + np.array([shift, 0, 0], np.float32))
    marked.refused(invariant)


def test_an_action_from_before_an_interrupt(marked):
    interrupt = [name for name, _ in marked.calls].index("interrupt", 100)
    at = next(i for i in marked.ticks(acted) if i > interrupt)
    before = [i for i in marked.ticks(acted) if i < interrupt][-1]
    made = marked.now(before).action[1]  # of the chunk before
    action = marked.now(at).action.copy()
    action[1] = made
    marked.change(at, action=action)
    marked.refused("before_interrupt")


def test_an_action_sooner_after_an_interrupt_than_a_chunk_takes(marked):
    marked.law = replace(marked.law, soonest=30)
    marked.refused("before_interrupt")


def test_an_interrupt_that_nobody_made(marked):
    marked.calls = [call for call in marked.calls if call[0] != "interrupt"]
    with pytest.raises(ViolationError, match=r"left|cause"):
        marked.check()


@pytest.mark.parametrize(
    ("invariant", "change"),
    [
        ("counters", lambda seen: replace(seen, chunks=0)),
        ("counters", lambda seen: replace(seen, ticks=seen.ticks + 1)),
        ("counters", lambda seen: replace(seen, delay=seen.max_delay + 1)),
        ("sum", lambda seen: replace(seen, actions=seen.actions + 1)),
        ("sum", lambda seen: replace(seen, underruns=seen.underruns | {"late": seen.underruns["late"] + 1})),
        ("consumed", lambda seen: replace(seen, consumed=seen.consumed + 1)),
        ("left", lambda seen: replace(seen, left=9)),
        ("left", lambda seen: replace(seen, left=-1)),
    ],
)
def test_counters_that_do_not_add_up(marked, invariant, change):
    at = marked.ticks(acted)[60]
    marked.change(at, seen=change(marked.now(at).seen))
    marked.refused(invariant)


def test_a_cause_that_cannot_be(marked):
    """From one tick on, one late underrun is counted as stale."""
    at = marked.ticks(lambda now: now.seen.underruns["late"] == 1)[0]
    for i in range(at, len(marked.calls)):
        if marked.calls[i][0] == "tick":
            seen = marked.now(i).seen
            causes = seen.underruns | {"late": seen.underruns["late"] - 1, "stale": 1}
            marked.change(i, seen=replace(seen, underruns=causes))
    marked.change(at, status="stale_observation", action=None)
    marked.refused("cause")


def test_a_status_that_does_not_say_its_cause(marked):
    at = marked.ticks(lambda now: not acted(now))[0]
    marked.change(at, status="engine_hung", action=None)
    marked.refused("status")


def test_something_else_than_was_declared(marked):
    at = marked.ticks(lambda now: not acted(now))[5]
    marked.change(at, action=marked.now(at).action + 1)
    marked.refused("underrun")


def test_no_recovery(marked):
    marked.law = replace(marked.law, patience=2)
    marked.refused("recovery")


def test_beyond_the_bounds(gated):
    at = gated.ticks(lambda now: now.seen.actions == 20)[0]
    gated.change(at, action=np.array([0, 0, 1.001], np.float32))
    gated.refused("bounds")


def test_faster_than_the_rate_limit(gated):
    at = gated.ticks(lambda now: now.seen.actions == 20)[0]
    gated.change(at, action=-np.sign(gated.now(at).action) * np.float32(0.99))
    gated.refused("rate")


def test_a_goal_that_was_left(monkeypatch):
    recording = Recording(monkeypatch, schedule("marked-plans", replace(CALM, replan=0.02)))
    recording.check()
    at = recording.ticks(acted)[-1]
    index, made, goal = recording.now(at).action
    asked = [i for i, (name, _) in enumerate(recording.calls[:at]) if name == "interrupt"][-1]
    left = [i for i in recording.ticks(acted) if i < asked][-1]
    assert abs(recording.now(left).action[2] - goal) > 1
    recording.change(at, action=np.array([index, made, recording.now(left).action[2]], np.float32))
    recording.refused("old_goal")


def test_an_action_while_a_plan_is_owed(monkeypatch):
    recording = Recording(monkeypatch, schedule("marked-plans", replace(CALM, replan=0.02)))
    asked = [name for name, _ in recording.calls].index("interrupt", 100)
    for i in range(asked, len(recording.calls)):
        if recording.calls[i][0] == "tick":
            seen = recording.now(i).seen
            recording.change(i, seen=replace(seen, plans=recording.now(asked - 1).seen.plans))
    recording.refused("old_goal")


# ---- the loop passes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stages", "kind_of_fault", "status"),
    [
        ("marked", 4, "fail", "engine_failure"),
        ("marked", 4, "nan", "rejected_chunk"),
        ("gated", 1, "fail", "engine_failure"),
        ("gated", 1, "nan", "rejected_chunk"),
        ("gated", 4, "nan", "rejected_chunk"),
        ("marked-plans", 2, "fail", "engine_failure"),
        ("marked-plans", 2, "nan", "rejected_plan"),
    ],
)
def test_every_stage_fails_for_a_while_and_recovers(kind, stages, kind_of_fault, status):
    faults = {
        f"{kind_of_fault}_ppm": 1_000_000,
        "fault_period": 24,
        "fault_length": 8,
        "fault_stages": stages,
    }
    found = play(schedule(kind, faults=faults), 1000)
    assert found.statuses[status] > 3
    assert found.telemetry["actions"] > 100
    assert found.telemetry["chunks_failed"] + found.telemetry["plans_failed"] > 5


def test_a_wild_network_stays_within_bounds():
    found = play(schedule("gated", faults={"wild_ppm": 500_000}))
    assert found.telemetry["actions"] > 200 and found.telemetry["chunks_failed"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_drawn_schedules_hold_and_repeat_to_the_bit(seed):
    first, again = (soak(Soak(None, "stub", seed, 1, 400)) for _ in range(2))
    assert first.violation is None, first.violation
    assert first.schedules[0].digest == again.schedules[0].digest
    assert first.schedules[0].ticks == 400
    other = soak(Soak(None, "stub", seed + 100, 1, 400))
    assert other.schedules[0].digest != first.schedules[0].digest


def test_a_shorter_soak_is_the_beginning_of_a_longer_one(monkeypatch):
    drawn = draw_schedule(3, None, "stub", False)
    calls = []
    for ticks in (100, 200):
        recorded: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(Checker, "tick", lambda self, now, into=recorded: into.append(now))
            Player(drawn, Soak(None, "stub", 3, 1, ticks)).play(lambda ticks: None)
        calls.append(recorded)
    assert [now.status for now in calls[0]] == [now.status for now in calls[1][:100]]


def test_a_bundle_of_somebody(stub_bundle):
    report = soak(Soak(stub_bundle, "stub", 0, 3, 300))
    assert report.violation is None, report.violation
    assert report.ticks == 900 and report.counted("actions") > 100


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_real_threads(seed):
    report = soak(Soak(None, "stub", seed, 1, 400, threads=True, close_ms=600_000))
    assert report.violation is None, report.violation
    assert report.ticks == 400


# ---- the command -----------------------------------------------------------------------------------


def test_the_command_writes_a_report(tmp_path, capsys):
    file = tmp_path / "soak.json"
    assert cli.run(["soak", "--hours", "0.002", "--schedules", "2", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["format"] == "keystep-soak" and told["version"] == 1 and told["violation"] is None
    assert told["ticks"] == sum(one["ticks"] for one in told["schedules"]) == 432
    assert [one["schedule"]["seed"] for one in told["schedules"]] == [0, 1]
    assert "every invariant held" in capsys.readouterr().out


def test_a_violation_is_one_line_and_can_be_repeated(tmp_path, capsys, monkeypatch):
    lawful = Schedule.law
    monkeypatch.setattr(Schedule, "law", lambda *what: replace(lawful(*what), patience=0))
    lines = []
    arguments = ["soak", "--seed", "3", "--schedules", "5", "--ticks", "300", "--json", str(tmp_path / "a")]
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.run(arguments)
        assert ended.value.code == 1
        lines.append(capsys.readouterr().err.splitlines()[-1])
        arguments = lines[-1].partition("again: keystep ")[2].split()
    assert lines[0] == lines[1]
    assert lines[0].startswith("violated: recovery: ") and "(seed 3, tick " in lines[0]
    assert json.loads((tmp_path / "a").read_text())["violation"]["invariant"] == "recovery"


def test_ctrl_c_leaves_a_report(tmp_path, capsys, monkeypatch):
    original = Player._tick

    def tick(self: Player) -> None:
        if self._checker.number == 150:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(Player, "_tick", tick)
    file = tmp_path / "soak.json"
    assert cli.run(["soak", "--schedules", "2", "--ticks", "300", "--json", str(file)]) == 130
    told = json.loads(file.read_text())
    assert told["interrupted"] and told["ticks"] == 150 and told["schedules"][0]["telemetry"]["ticks"] == 150


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--hours", "0"], "hours: expected more than 0, got 0.0"),
        (["--hours", "nan"], "hours: expected more than 0, got nan"),
        (["--ticks", "0"], "ticks: expected 1 or more, got 0"),
        (["--schedules", "0"], "schedules: expected 1 or more, got 0"),
        (["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["nowhere.keystep", "--ticks", "5"], "nowhere.keystep"),
    ],
)
def test_wrong_options(given, message, capsys):
    assert cli.run(["soak", *given]) == 2
    assert message in capsys.readouterr().err
