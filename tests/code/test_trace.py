"""Code traces, memory, algorithm 1, shifted borders and early stop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from code_programs import Program, programs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keystep.code.grammar import format_statements, parse
from keystep.code.language import AssignPose
from keystep.code.trace import (
    CodeTrace,
    Memory,
    Segment,
    check_trace,
    codes_from_segments,
    comment,
    extract_memory_info,
    is_keystep,
    matches_last,
    segments,
    shift_borders,
    uncommented,
)

PICK = "pick(get_actor('red cube'))"
STORE = "pose_dict['T'] = free_space(get_actor('red cube'))\nmove3d(pose_dict['T'])"
KEYSTEPS = st.sampled_from([PICK, STORE, "done()", "# first\n\ndone()"]) | programs(3).map(
    lambda program: program.text
).filter(is_keystep)
TRACES = st.lists(st.tuples(KEYSTEPS, st.integers(1, 8)), max_size=6)


def parts_of(trace: list[tuple[str, int]]) -> list[Segment]:
    """Segments from (code, steps)."""
    stops = np.cumsum([steps for _, steps in trace]).tolist()
    return [Segment(stop - steps, stop, code) for (code, steps), stop in zip(trace, stops, strict=True)]


# ---- comments


def test_a_comment_marks_every_line() -> None:
    assert comment("a\n\n# b\nc") == "# a\n# \n# # b\n# c"


@given(st.text())
def test_comments_can_be_taken_away_again(text: str) -> None:
    assert uncommented(comment(text)) == text
    assert not is_keystep(comment(text))


@given(KEYSTEPS)
def test_commented_code_is_no_code(code: str) -> None:
    assert is_keystep(code)
    assert parse(comment(code)) == ()


@pytest.mark.parametrize("text", ["done()", "# a\ndone()", "", "#a", "# a\n\n# b"])
def test_only_commented_lines_can_be_uncommented(text: str) -> None:
    with pytest.raises(ValueError, match="expected a line that starts with '# '"):
        uncommented(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PICK, True),
        ("# what\ndone()", True),
        ("done()\n# what", True),
        ("done()  # what", True),
        ("", False),
        ("\n  \n", False),
        ("#done()", False),
        ("  # done()\n\t# done()", False),
    ],
)
def test_a_keystep_has_a_line_of_code(text: str, expected: bool) -> None:
    assert is_keystep(text) is expected
    assert Memory().update(text) is expected


# ---- traces


def test_code_is_plain_at_its_first_step_only() -> None:
    trace = CodeTrace()
    trace.begin(STORE)
    for _ in range(3):
        trace.step()
    trace.begin("done()")
    trace.step()
    assert trace.codes == [STORE, *[comment(STORE)] * 2, "done()"]
    assert trace.keysteps == [True, False, False, True]
    first, second = STORE.split("\n")
    assert trace.codes[1] == f"# {first}\n# {second}"


def test_the_same_call_twice_is_two_keysteps() -> None:
    codes, keysteps = codes_from_segments([Segment(0, 2, PICK), Segment(2, 3, PICK)])
    assert codes == [PICK, comment(PICK), PICK] and keysteps == [True, False, True]
    assert segments(codes, keysteps) == [Segment(0, 2, PICK), Segment(2, 3, PICK)]


@given(TRACES)
@settings(deadline=None)
def test_segments_and_traces_are_the_same(trace: list[tuple[str, int]]) -> None:
    parts = parts_of(trace)
    codes, keysteps = codes_from_segments(parts)
    assert len(codes) == len(keysteps) == sum(steps for _, steps in trace)
    check_trace(codes, keysteps)
    assert segments(codes, keysteps) == parts
    assert keysteps == [is_keystep(code) for code in codes]
    current = ""
    for code, keystep in zip(codes, keysteps, strict=True):
        current = code if keystep else current
        assert code == (current if keystep else "\n".join("# " + line for line in current.split("\n")))


def test_a_trace_is_recorded_in_order() -> None:
    trace = CodeTrace()
    with pytest.raises(ValueError, match="step: expected a key-step before the first control step"):
        trace.step()
    with pytest.raises(ValueError, match="code: expected a line that is not commented out, got '# a'"):
        trace.begin("# a")
    trace.begin(PICK)
    with pytest.raises(ValueError, match=r"code: expected a control step of .* first, got 'done"):
        trace.begin("done()")
    assert trace.codes == [] and trace.keysteps == []


@pytest.mark.parametrize(
    ("codes", "keysteps", "message"),
    [
        (["done()"], [True, False], r"keysteps: expected 1 flags, one per code, got 2"),
        (["# done()"], [False], r"keysteps\[0\]: expected a key-step first, got '# done\(\)'"),
        (["# done()"], [True], r"codes\[0\]: expected a line that is not commented out"),
        (["done()", "done()"], [True, False], r"codes\[1\]: expected '# done\(\)', got 'done\(\)'"),
        (["done()", PICK, "# done()"], [True, True, False], r"codes\[2\]: expected \"# pick"),
        (["done()", "#done()"], [True, False], r"codes\[1\]: expected '# done\(\)', got '#done\(\)'"),
        (["done()", "# done()"], [True, True], r"codes\[1\]: expected a line that is not commented out"),
    ],
)
def test_what_is_no_trace_is_refused(codes: list[str], keysteps: list[bool], message: str) -> None:
    for check in (check_trace, segments):
        with pytest.raises(ValueError, match=message):
            check(codes, keysteps)


# ---- memory


@given(st.lists(programs(3), max_size=6))
@settings(deadline=None)
def test_memory_info_is_what_stores_poses(made: list[Program]) -> None:
    memory = Memory()
    for program in made:
        before = list(memory.instructions)
        assert memory.update(program.text) == bool(parse(program.text))
        assert not memory.update(comment(program.text))
        assert memory.instructions[: len(before)] == before
    storing = [
        text
        for text in memory.instructions
        if any(isinstance(statement, AssignPose) for statement in parse(text))
    ]
    assert extract_memory_info(memory) == "\n".join(storing)
    assert extract_memory_info(memory.instructions) == "\n".join(storing)
    assert memory.last == (memory.instructions or [None])[-1]


def test_memory_info_by_hand() -> None:
    assert extract_memory_info(Memory()) == ""
    assert extract_memory_info([PICK, STORE, "move3d(pose_dict['T'])"]) == STORE
    assert extract_memory_info([STORE, "pose_dict['T']=rotate_z(pose_dict['T'], 5)"]).count("\n") == 2
    assert extract_memory_info(["# pose_dict['T'] = free_space(x)\ndone()"]) == ""
    assert extract_memory_info(["pose_dict['T'] == 3", "x = pose_dict['T']"]) == ""
    assert extract_memory_info(["pick(get_actor(\"pose_dict['a'] = \"))"]) == ""


# ---- early stop


@given(st.lists(KEYSTEPS, max_size=2), st.text(max_size=3), st.integers(0, 80), st.integers(1, 90))
@settings(deadline=None)
def test_decoding_stops_when_the_beginning_is_known(kept: list[str], end: str, n: int, length: int) -> None:
    memory = Memory(kept)
    reply = (comment(kept[-1])[:n] if kept else "") + end
    expected = bool(kept)
    for index, character in enumerate(comment(kept[-1]) if kept else ""):
        if index < length and reply[index : index + 1] != character:
            expected = False
    assert matches_last(reply, memory, length) == expected


def test_early_stop_by_hand() -> None:
    memory = Memory([PICK])
    assert not matches_last("", Memory()) and not matches_last("# pick(", Memory())
    assert not matches_last("# pick(get_actor('red c", memory)  # 23 characters
    assert matches_last("# pick(get_actor('red cu", memory)
    assert matches_last("# pick(get_actor('red cup", memory)
    assert not matches_last("pick(get_actor('red cube'))", memory)
    assert matches_last("# done()", Memory([PICK, "done()"]))
    with pytest.raises(ValueError, match="length: expected at least 1, got 0"):
        matches_last("# pick", memory, 0)


# ---- shifted borders


@given(TRACES, st.integers(0, 9), st.integers(0, 99))
@settings(deadline=None)
def test_shifted_borders_keep_order_and_steps(trace: list[tuple[str, int]], most: int, seed: int) -> None:
    parts = parts_of(trace)
    shifted = shift_borders(parts, np.random.default_rng(seed), most)
    assert [part.code for part in shifted] == [part.code for part in parts]
    assert all(part.stop > part.start for part in shifted)
    assert all(a.stop == b.start for a, b in pairwise(shifted))
    assert all(abs(a.stop - b.stop) <= most for a, b in zip(shifted, parts, strict=True))
    if parts:
        assert (shifted[0].start, shifted[-1].stop) == (0, parts[-1].stop)
    codes, keysteps = codes_from_segments(shifted)
    assert segments(codes, keysteps) == shifted
    assert shifted == shift_borders(parts, np.random.default_rng(seed), most)


def test_distant_borders_move_by_every_shift_equally_often() -> None:
    parts = parts_of([("pick", 20), ("place", 20), ("done()", 20)])
    rng = np.random.default_rng(0)
    counts = np.zeros((2, 7), dtype=int)
    for _ in range(2000):
        for border, (part, old) in enumerate(zip(shift_borders(parts, rng, 3)[:2], parts, strict=False)):
            counts[border, part.stop - old.stop + 3] += 1
    assert counts.sum() == 4000
    assert (abs(counts - 2000 / 7) < 5 * np.sqrt(2000 / 7)).all()


def test_segments_must_follow_each_other() -> None:
    rng = np.random.default_rng(0)
    for bad in ([Segment(1, 2, PICK)], [Segment(0, 0, PICK)], [Segment(0, 2, PICK), Segment(3, 4, PICK)]):
        with pytest.raises(ValueError, match=rf"segments\[{len(bad) - 1}\]: expected at least one step from"):
            codes_from_segments(bad)
        with pytest.raises(ValueError, match="segments"):
            shift_borders(bad, rng)
    with pytest.raises(ValueError, match="max_shift: expected at least 0 steps, got -1"):
        shift_borders([], rng, -1)


@given(programs(3))
@settings(deadline=None)
def test_canonical_code_stores_the_same(program: Program) -> None:
    assume(program.text.strip())
    canonical = format_statements(parse(program.text))
    assert bool(extract_memory_info([canonical])) == bool(extract_memory_info([program.text]))
