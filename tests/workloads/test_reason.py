"""What is said of an error: whatever it is, it can be kept anywhere."""

from __future__ import annotations

import pytest

from incumbent.workloads.reason import LONGEST, said


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(Exception):
    __str__ = 7  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("poison"), "ValueError: poison"),
        (ValueError("half \udcff"), "ValueError: half \\udcff"),
        (ValueError("a\0b"), "ValueError: a\\0b"),
        (Mute(), "Mute (its text cannot be had: __str__ raises)"),
        (Odd(), "Odd (its text cannot be had: __str__ raises)"),
        (ValueError("x" * 200_000), "ValueError: " + "x" * (LONGEST - 13) + "…"),
        (ValueError("é" * LONGEST), "ValueError: " + "é" * (LONGEST - 13) + "…"),
    ],
)
def test_whatever_the_error_is_its_text_can_be_kept(error: Exception, text: str) -> None:
    assert said(error) == text


@pytest.mark.parametrize("text", ["\udcff" * LONGEST, "\0" * LONGEST, "\udcff" * (LONGEST // 5)])
def test_what_grows_by_being_written_out_is_cut_after_that(text: str) -> None:
    assert len(said(ValueError(text))) <= LONGEST
    assert said(ValueError(text)).encode()
