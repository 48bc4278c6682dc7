"""A command as the work of one run, in this process: what ends it, and what that is called."""

from __future__ import annotations

import threading

import pytest

from incumbent import testing
from incumbent.errors import LeadershipLost
from incumbent.workloads.command import Command, CommandFailed
from tests.faces.programs import LIMIT_S

STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]


class Run:
    """A command that runs in a thread, and how it came out."""

    def __init__(self, argv: list[str], timeout_s: float | None = None) -> None:
        self.term = testing.elected_term()
        self.outcome: BaseException | None = None
        self._command = Command(argv, grace_s=0.1)
        self._thread = threading.Thread(target=self._run, args=(timeout_s,))
        self._thread.start()

    def _run(self, timeout_s: float | None) -> None:
        try:
            self._command.run(self.term, {}, timeout_s)
        except Exception as error:
            self.outcome = error

    def end(self) -> BaseException | None:
        """Return how it came out; whatever goes on is ended with its term."""
        self._thread.join(LIMIT_S)
        testing.recall(self.term)
        self._thread.join()
        return self.outcome


def test_it_has_had_its_time() -> None:
    outcome = Run(STUBBORN, timeout_s=0.3).end()
    assert isinstance(outcome, TimeoutError)
    assert str(outcome) == "it was ended after 0.3 s"


def test_it_ends_with_its_term() -> None:
    run = Run(STUBBORN)
    testing.recall(run.term)
    assert isinstance(run.end(), LeadershipLost)


@pytest.mark.parametrize(
    ("argv", "says"),
    [(["sh", "-c", "exit 3"], "ended with 3"), (["no-such-program"], "no-such-program")],
)
def test_it_fails(argv: list[str], says: str) -> None:
    outcome = Run(argv).end()
    assert isinstance(outcome, CommandFailed)
    assert says in str(outcome)


def test_it_is_well() -> None:
    assert Run(["true"]).end() is None
