"""The verdict on the demo: each way to break the promise is planted, and found."""

from __future__ import annotations

import dataclasses

import pytest

from incumbent.cli.demo_log import Fault, Line, Verdict, judge, parse, spans, strip


def term(
    replica: str, pid: int, token: int, first_s: float, jobs: range, step_s: float = 0.1
) -> list[Line]:
    """A term that begins, does `jobs`, and ends."""
    lines = [Line("begin", first_s, token, pid, replica)]
    for number, job in enumerate(jobs, start=1):
        lines.append(Line("job", first_s + number * step_s, token, pid, replica, job))
    return [*lines, Line("end", first_s + (len(jobs) + 1) * step_s, token, pid, replica)]


A = term("a", 11, 100, 10.0, range(1, 6))
B = term("b", 12, 101, 11.0, range(6, 11))
C = term("c", 13, 105, 14.0, range(11, 16))
FAULTS = (Fault("kill", 10.65, "a"), Fault("pause", 11.7, "b"))


def verdict(lines: list[Line], least_takeovers: int = 2) -> Verdict:
    return judge(lines, faults=FAULTS, least_takeovers=least_takeovers)


def test_three_terms_that_follow_one_another_keep_the_promise() -> None:
    found = verdict([*A, *B, *C])
    assert found.outcome == "kept"
    assert found.kept
    assert found.why == ()
    assert (found.jobs, found.takeovers, found.lines) == (15, 2, 21)
    assert [(gap.fault, gap.before, gap.after) for gap in found.gaps] == [
        ("kill", "a", "b"),
        ("pause", "b", "c"),
    ]
    assert [round(gap.seconds_s, 3) for gap in found.gaps] == [0.4, 2.4]


def test_faults_only_name_the_gaps() -> None:
    named, unnamed = verdict([*A, *B]), judge([*A, *B], least_takeovers=1)
    assert [gap.fault for gap in unnamed.gaps] == [""]
    assert [gap.seconds_s for gap in named.gaps] == [gap.seconds_s for gap in unnamed.gaps]


def test_two_processes_active_at_one_instant_are_an_overlap() -> None:
    early = [dataclasses.replace(line, at_s=line.at_s - 0.5) for line in B]
    found = verdict([*A, *early, *C])
    assert found.outcome == "broken"
    assert found.overlaps == ("a (11) and b (12), 0.100 s",)
    assert found.stale


def test_two_processes_with_one_token_are_an_overlap_and_no_growth() -> None:
    twin = [dataclasses.replace(line, pid=99, job=0, what="live") for line in A]
    found = verdict([*A, *twin])
    assert found.outcome == "broken"
    assert len(found.overlaps) == 1
    assert any("token 100" in reason for reason in found.why)


def test_a_term_within_another_is_an_overlap_with_each_that_it_meets() -> None:
    long = [Line("live", 10.0, 200, 77, "c"), Line("live", 20.0, 200, 77, "c")]
    assert len(verdict([*A, *B, *C, *long]).overlaps) == 3


def test_a_line_after_a_successor_is_stale_by_the_file() -> None:
    """It read the clock in time and was paused before it wrote: only the file's order tells."""
    found = verdict([*A, *B[:2], Line("live", 10.61, 100, 11, "a"), *B[2:], *C])
    assert found.outcome == "broken"
    assert found.stale == 1


def test_a_line_after_a_successor_is_stale_by_the_clock() -> None:
    """It was written first and says a later time: then it overlapped, too."""
    found = verdict([*A, Line("live", 11.05, 100, 11, "a"), *B, *C])
    assert found.outcome == "broken"
    assert found.stale == 1
    assert found.overlaps


def test_a_job_done_twice_is_a_duplicate() -> None:
    again = term("b", 12, 101, 11.0, range(5, 11))
    found = verdict([*A, *again, *C])
    assert found.outcome == "broken"
    assert found.duplicates == (5,)


def test_a_job_left_out_is_missing() -> None:
    found = verdict([*A, *term("b", 12, 101, 11.0, range(8, 11)), *C])
    assert found.outcome == "broken"
    assert found.missing == (6, 7)


@pytest.mark.parametrize("token", [99, 100])
def test_a_token_that_does_not_grow_is_found(token: int) -> None:
    found = verdict([*A, *term("b", 12, token, 11.0, range(6, 11))], least_takeovers=1)
    assert found.outcome == "broken"


def test_too_few_takeovers_show_nothing() -> None:
    found = verdict([*A, *B], least_takeovers=2)
    assert found.outcome == "void"
    assert not found.kept
    assert judge([]).outcome == "void"


def test_a_broken_promise_is_broken_however_little_was_shown() -> None:
    assert verdict([*A, *A], least_takeovers=9).outcome == "broken"


def test_lines_come_back_as_they_were_written() -> None:
    lines = [*A, *B]
    text = b"".join(line.encode() for line in lines).decode()
    assert parse(text) == (lines, 0)


def test_what_a_killed_process_left_half_written_spoils_no_other_line() -> None:
    text = (A[0].encode() + A[1].encode()[:20] + B[0].encode()).decode()
    assert parse(text) == ([A[0], B[0]], 1)


@pytest.mark.parametrize(
    "row",
    [
        "[]",
        "{}",
        '{"what":"dance","at_s":1,"token":1,"pid":1,"replica":"a"}',
        '{"what":"job","at_s":1,"token":1,"pid":1,"replica":"a"}',
        '{"what":"live","at_s":1,"token":1,"pid":1,"replica":"a","job":3}',
        '{"what":"live","at_s":null,"token":1,"pid":1,"replica":"a"}',
    ],
)
def test_a_line_that_is_none_is_counted(row: str) -> None:
    assert parse(f"\n{row}\n") == ([], 1)


def test_a_timeline_does_not_make_an_overlap_of_a_handover() -> None:
    terms = spans([*A, *B])
    first, second = (strip(terms, name, 10.0, 11.6, 8) for name in "ab")
    assert first == [True, True, True, False, False, False, False, False]
    assert second == [False, False, False, False, False, True, True, True]


def test_a_timeline_shows_an_overlap() -> None:
    early = [dataclasses.replace(line, at_s=line.at_s - 0.8) for line in B]
    terms = spans([*A, *early])
    both = zip(strip(terms, "a", 10.0, 11.0, 5), strip(terms, "b", 10.0, 11.0, 5), strict=True)
    assert any(one and other for one, other in both)
