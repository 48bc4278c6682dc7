"""The page of fault runs is written from their results."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.page import PAGE, line, written

HEAD = "| store | fault | rounds | takeovers | overlap | stale work | gap | p95 | worst | kept |\n"
ETCD = "| etcd | kill | 1 | 1 | 0 | 0 | 1 | 1 | 1 | 0 |\n"
REDIS = "| redis | end-connections | 2 | 2 | 0 | 0 | 2 | 2 | 2 | 0 |\n"


def result(store: str, fault: str, verdict: str = "ok", mode: str = "library") -> dict[str, Any]:
    return {
        "plan": {"store": store, "fault": fault, "mode": mode},
        "rounds": 100,
        "takeovers": 103,
        "overlaps": 0,
        "stale_marks": 0,
        "gap_p50_ns": 1_822_400_000,
        "gap_p95_ns": 2_056_000_000,
        "gap_max_ns": 12_276_000_000,
        "survivors": 66,
        "verdict": verdict,
    }


def test_a_result_takes_the_place_of_the_one_before() -> None:
    new = result("redis", "end-connections")
    page = written(HEAD + ETCD + REDIS, [new, result("etcd", "kill", mode="pid1")])
    row = "| redis | end-connections | 100 | 103 | 0 | 0 | 1,822 | 2,056 | 12,276 | 66 |\n"
    assert page == HEAD + ETCD + row
    assert line(new) + "\n" == row


def test_what_was_not_judged_good_is_refused() -> None:
    with pytest.raises(ValueError, match="etcd kill was judged VIOLATED"):
        written(HEAD + ETCD, [result("etcd", "kill", "VIOLATED")])


def test_what_the_page_has_no_line_for_is_refused() -> None:
    with pytest.raises(ValueError, match="no line for etcd cut"):
        written(HEAD + ETCD, [result("etcd", "cut")])


def test_the_page_has_lines_that_are_found() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, [result("etcd", "cut"), result("kubernetes-session", "stop")]) != page
