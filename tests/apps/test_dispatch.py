"""Beats through seeded histories: each tick under one id, none lost, none repeated without need."""

from __future__ import annotations

import pytest

from incumbent.apps.celery.notes import Note, decode, encode
from incumbent.errors import StoreUnusable
from tests.apps.dispatch_histories import play

HISTORIES = 60


def test_histories() -> None:
    verdicts = {seed: play(seed) for seed in range(HISTORIES)}
    assert {seed: verdict.faults for seed, verdict in verdicts.items() if verdict.faults} == {}
    assert sum(verdict.messages for verdict in verdicts.values()) > 20 * HISTORIES


def test_notes_come_back_as_they_were() -> None:
    notes = {"count": Note(1.25, 3, "an id"), "mail": Note(2.0, 1)}
    assert decode(encode(notes), "the notes") == notes
    assert decode(b"", "the notes") == {}


@pytest.mark.parametrize(
    "value", [b"{", b"[]", b'{"format":2,"entries":{}}', b'{"format":1,"entries":{"a":[1]}}']
)
def test_what_is_none_of_ours_is_left_alone(value: bytes) -> None:
    with pytest.raises(StoreUnusable, match="the notes is none that this version can read"):
        decode(value, "the notes")
