"""What `benchmarks.writing` says: tables of single steps, of a growing memory, of floors, and the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from benchmarks.code_floors import BYTES, decoder_cost, vision_operations
from benchmarks.floors import graph_cost, measure_peaks
from benchmarks.harness import paired_ratio, summarise
from benchmarks.writing_episodes import Episode, Timed
from keystep.code.prompt import Prompt
from keystep.code.samples import SampleMaker
from keystep.code.spoken import Language
from keystep.export.code_golden import CodePlanning
from keystep.table_writer import table_of

GOES_ON_MS, KEY_STEP_MS, FASTER, GROWTH, REACTION_US = 8.0, 12.0, 8.0, 1.2, 200.0
GENERATE, KEPT, BEST = "fp32, generate", "fp32, generate, memory kept", "draft, prepared"


@dataclass(frozen=True)
class Planner:
    """What is measured.

    Attributes:
        weights: where they come from, in words.
        bundles: by precision.
        planning: the same weights in torch; None: not at hand.
    """

    name: str
    weights: str
    episode: Episode
    bundles: Mapping[str, Path]
    planning: CodePlanning | None


@dataclass(frozen=True)
class Measured:
    """All contenders of a planner, each "threads, precision, way"."""

    planner: Planner
    timed: Mapping[str, Timed]

    def steps(self, name: str, key_steps: bool) -> list[int]:
        """At which the contender wrote key-steps, or that its call goes on."""
        replies = self.timed[name].replies
        return [step for step, reply in enumerate(replies) if reply.ended and reply.key_step == key_steps]

    def medians(self, name: str, cpu: bool = False) -> list[float]:
        """By episode, of the steps that go on."""
        return self.timed[name].medians(self.steps(name, False), cpu)

    def other_texts(self, name: str) -> int:
        """Steps at which the contender wrote another text than greedy decoding in single precision, or the
        first contender where that is not measured."""
        wanted = next((name for name in self.timed if name.endswith("fp32, greedy")), next(iter(self.timed)))
        pairs = zip(self.timed[name].replies, self.timed[wanted].replies, strict=True)
        return sum(ours.text != theirs.text for ours, theirs in pairs)

    def memory(self, name: str) -> list[int]:
        """[steps]: tokens of key-steps in the prompt."""
        planner = keystep.read_manifest(next(iter(self.planner.bundles.values())))["planner"]
        language = Language.from_dict(planner)
        maker = SampleMaker(language.tokenizer, language.layout, planner["image_tokens"])

        def tokens(known: list[str]) -> int:
            asked = Prompt(self.planner.episode.task, tuple(known))
            return sum(len(chunk.tokens) for chunk in maker.question(asked, 0))

        known, found = list[str](), list[int]()
        for reply in self.timed[name].replies:
            found.append(tokens(known) - tokens([]))
            known += [reply.text] * reply.key_step
        return found


def report(planners: Sequence[Measured], reactions: Mapping[str, Any]) -> str:
    """In Markdown."""
    parts = []
    for one in planners:
        planner = one.planner
        parts += [f"## {planner.name}, {planner.weights}, {len(planner.episode.observations)} steps\n"]
        parts += [table_of([_row(one, name) for name in one.timed])]
        best = [name for name in one.timed if name.endswith(BEST)]
        parts += ["Bars, medians on the clock and of processor time:\n"]
        parts += [table_of([_bars(one, name) for name in best])]
        parts += ["Of the growing memory, the same call at two places of the episode:\n"]
        parts += [table_of([_growth_row(one, name) for name in best])]
        if planner.planning is not None:
            parts += ["Floors, and processor time with the fewest threads:\n", _floors(one)]
    if reactions:
        parts += ["## From a key-step to the first denoise step, our own\n", _reactions(reactions)]
    return "\n".join(parts)


# ---- steps


def _row(one: Measured, name: str) -> dict[str, str]:
    timed, on, begun = one.timed[name], one.steps(name, False), one.steps(name, True)
    threads = name.split(", ")[0]
    row = {"threads, weights, way": name, **_times("goes on", timed, on)}
    for rival, title in ((GENERATE, "generate / it"), (KEPT, "kept / it")):
        row |= _slower(one, f"{threads}, {rival}", name, title)
    passes = np.array([reply.passes for reply in timed.replies])
    return row | {
        **_times("key-step", timed, begun),
        "goes on in one pass": _share(passes[on] == 1) if "draft" in name else "",
        "key-step in two": _share(passes[begun] <= 2) if "draft" in name else "",
        "prepare, CPU ms": f"{np.median(timed.prepare_cpu_ms):.2f}" if timed.prepare_cpu_ms else "",
        "other texts": str(one.other_texts(name)),
    }


def _times(what: str, timed: Timed, steps: Sequence[int]) -> dict[str, str]:
    """Of single steps: median and p99, on the clock and of processor time."""
    told = {}
    for cpu, column in ((False, "ms, p99"), (True, "CPU ms, p99")):
        told[f"{what}: {column}"] = "-"
        if steps:
            found = summarise(timed.of(steps, cpu).ravel().tolist())
            told[f"{what}: {column}"] = f"{found['median']:.2f}, {found['p99']:.2f}"
    return told


def _slower(one: Measured, rival: str, name: str, title: str) -> dict[str, str]:
    """By how much, of pairs of episodes: on the clock, and of processor time."""
    if rival not in one.timed or not one.steps(name, False):
        return {title: "-", f"{title}, CPU": "-"}
    told = {}
    for cpu, column in ((False, title), (True, f"{title}, CPU")):
        ratio = paired_ratio(one.medians(rival, cpu), one.medians(name, cpu))
        told[column] = f"{ratio['median']:.1f} ({ratio['low']:.1f} .. {ratio['high']:.1f})"
    return told


def _share(found: np.ndarray) -> str:
    return f"{100 * found.mean():.0f} %" if len(found) else "-"


def _bars(one: Measured, name: str) -> dict[str, str]:
    timed, threads = one.timed[name], name.split(", ")[0]
    row = {"threads, weights, way": name}
    for key_steps, what in ((False, f"goes on ms, bar {GOES_ON_MS:g}"), (True, f"key-step, {KEY_STEP_MS:g}")):
        steps = one.steps(name, key_steps)
        medians = [f"{np.median(timed.of(steps, cpu)):.2f}" for cpu in (False, True)] if steps else ["-"]
        row[what] = ", ".join(medians)
    slower = _slower(one, f"{threads}, {GENERATE}", name, "it")
    row[f"generate / it, {FASTER:g}"] = "; ".join(dict.fromkeys(slower.values()))
    return row | {f"grows, {GROWTH:g}": _growth_row(one, name)["grows"]}


# ---- a growing memory


def _growth_row(one: Measured, name: str) -> dict[str, str]:
    """Of the text that goes on at the two memories that are furthest apart."""
    timed, memory = one.timed[name], one.memory(name)
    places: dict[str, list[int]] = {}
    for step in one.steps(name, False):
        places.setdefault(timed.replies[step].text, []).append(step)
    apart = {text: memory[steps[-1]] - memory[steps[0]] for text, steps in places.items()}
    row = {"threads, weights, way": name, "memory, tokens": "-", "CPU ms": "-", "grows": "-"}
    if not apart or not max(apart.values()):
        return row
    steps = places[max(apart, key=lambda text: apart[text])]
    ends = [memory[steps[0]], memory[steps[-1]]]
    few, many = (timed.medians([step for step in steps if memory[step] == end], cpu=True) for end in ends)
    ratio = paired_ratio(many, few)
    return row | {
        "memory, tokens": f"{ends[0]} .. {ends[1]}",
        "CPU ms": f"{np.median(few):.2f} .. {np.median(many):.2f}",
        "grows": f"{ratio['median']:.2f}x ({ratio['low']:.2f} .. {ratio['high']:.2f})",
    }


# ---- floors


def _floors(one: Measured) -> str:
    """Of the mean step that goes on, a draft that is accepted, and of a token's pass."""
    planning = one.planner.planning
    assert planning is not None
    config, rows = planning.config, []
    threads = min(int(name.split(", ")[0]) for name in one.timed)
    for precision, bundle in one.planner.bundles.items():
        drafted, greedy = (f"{threads}, {precision}, {way}" for way in (BEST, "greedy"))
        on = one.steps(drafted, False)
        if not on:
            continue
        replies, memory = one.timed[drafted].replies, one.memory(drafted)
        past = round(float(np.mean([memory[step] for step in on]))) + _task_tokens(one)
        draft = round(float(np.mean([replies[step].tokens for step in on])))
        vision, bytes_seen = vision_operations(config), graph_cost(bundle / "vision.onnx").weight_bytes
        step = decoder_cost(config, 1 + config.image_tokens + draft, draft + 1, past)
        token = decoder_cost(config, 1, 1, past)
        accepted = [place for place in on if replies[place].passes == 1]
        if accepted:
            took = float(np.median(one.timed[drafted].of(accepted, cpu=True)))
            read, operations = step.bytes(precision) + bytes_seen, step.operations + vision
            rows.append(_floor("goes on, one pass", precision, threads, read, operations, took))
        took = _pass_ms(one.timed[greedy])
        rows.append(
            _floor("a token's pass", precision, threads, token.bytes(precision), token.operations, took)
        )
    return table_of(rows) if rows else "No call goes on.\n"


def _task_tokens(one: Measured) -> int:
    assert one.planner.planning is not None
    return len(one.planner.planning.language.tokenizer.encode(one.planner.episode.task))


def _pass_ms(timed: Timed) -> float:
    """Processor time of one more pass: the slope over an episode's steps."""
    passes = [reply.passes for reply in timed.replies]
    took = np.median(np.array(timed.cpu_ms), axis=0)
    return float(np.polyfit(passes, took, 1)[0]) if len(set(passes)) > 1 else float("nan")


def _floor(
    what: str, precision: str, threads: int, read: float, operations: int, ms: float
) -> dict[str, str]:
    peaks = measure_peaks(int(read), threads, precision)
    memory = 1e3 * read / peaks.bytes_per_second
    arithmetic = 1e3 * operations / peaks.operations_per_second
    return {
        "what": what,
        "weights": f"{precision}, {BYTES[precision]:.3g} bytes",
        "MB read": f"{read / 1e6:.1f}",
        "M multiply-adds": f"{operations / 2e6:.1f}",
        "floor by memory ms": f"{memory:.2f}",
        "by arithmetic ms": f"{arithmetic:.2f}",
        "CPU ms": f"{ms:.2f}",
        "x floor": f"{ms / max(memory, arithmetic):.1f}",
        "GB/s, of": f"{read / ms / 1e6:.1f}, {peaks.bytes_per_second / 1e9:.1f}",
    }


def _reactions(reactions: Mapping[str, Any]) -> str:
    rows = [
        {
            "mode": mode,
            "key-steps": str(found["count"]),
            "median us": f"{found['median_us']:.1f}",
            "p99 us": f"{found['p99_us']:.1f}",
            "bar us": f"{REACTION_US:.0f}",
            "within": "yes" if found["median_us"] <= REACTION_US else "no",
        }
        for mode, found in reactions.items()
    ]
    return table_of(rows)
