"""Runs pieces of work until a signal comes: what `incumbent every` and `incumbent work` share.

Each piece leads in a thread of its own, which makes the trees of its commands; the main thread
waits for signals. The first TERM or INT hands everything over; the second one kills at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from incumbent.cli import codes
from incumbent.cli.voice import Voice
from incumbent.errors import ConfigError, IncumbentError, Withdrawn
from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.settings import Settings
from incumbent.sync.work import Work
from incumbent.workloads.command import Command, CommandFailed
from incumbent.workloads.periodic.spec import MAIN
from incumbent.workloads.periodic.tick import RunFailed, RunTimedOut, Tick

__all__ = ["CommandTask", "Piece", "observer", "refuse_one_process", "work_on"]

_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Piece:
    """One piece of work, and the commands that it runs.

    Attributes:
        name: of its election.
        work: what is run.
        voice: what tells of it.
        commands: to be killed when there is no more patience.
    """

    name: str
    work: Work
    voice: Voice
    commands: list[Command] = field(default_factory=list)


class CommandTask:
    """A command as the function of a periodic task.

    Attributes:
        ends_in_time: whether it sees to its time by itself.
    """

    ends_in_time = True

    def __init__(self, command: Command, store_url: str, voice: Voice) -> None:
        self._command = command
        self._store_url = store_url
        self._voice = voice

    def __call__(self, tick: Tick) -> None:
        """Run it once."""
        environment = {
            "INCUMBENT_STORE": self._store_url,
            "INCUMBENT_TICK": tick.id,
            "INCUMBENT_DUE": tick.due.isoformat(),
            "INCUMBENT_ATTEMPT": str(tick.attempt),
        }
        title = tick.term.name if tick.job == MAIN else f"{tick.term.name}/{tick.job}"
        self._voice.detail("tick", f"{title}: {tick.id}, attempt {tick.attempt}")
        try:
            self._command.run(tick.term, environment, tick.remaining_s())
        except CommandFailed as error:
            raise RunFailed(str(error)) from None
        except TimeoutError as error:
            raise RunTimedOut(str(error)) from None


def observer(voice: Voice) -> Callable[[Sighting], None]:
    """Return what tells people of what happens to a candidate."""

    def observe(sighting: Sighting) -> None:
        if sighting.event == "closed":
            voice.detail(sighting.event, sighting.text)
        else:
            voice.say(sighting.event, sighting.text, sighting.identity, sighting.token)

    return observe


def refuse_one_process(settings: Settings) -> None:
    """Refuse a store that elects among the candidates of one process.

    Raises:
        ConfigError: it is one.
    """
    if settings.store.capabilities.one_process:
        raise ConfigError(
            f"{settings.store.url} elects among the candidates of one process only, and each "
            "`incumbent` is one: use sqlite:///PATH or kubernetes://"
        )


def work_on(pieces: Sequence[Piece]) -> int:
    """Run all of them until a signal comes or one of them fails; return the exit code."""
    ended = threading.Event()
    signals: list[int] = []
    failures: list[tuple[Piece, BaseException]] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        signals.append(number)
        ended.set()
        if len(signals) > 1:
            for piece in pieces:
                for command in piece.commands:
                    command.hurry()

    def lead(piece: Piece) -> None:
        try:
            with suppress(Withdrawn):
                piece.work.run()
        except BaseException as error:
            failures.append((piece, error))
        finally:
            ended.set()

    before = {number: signal.signal(number, on_signal) for number in _ENDING}
    try:
        threads = [threading.Thread(target=lead, args=(piece,), daemon=True) for piece in pieces]
        for thread in threads:
            thread.start()
        ended.wait()
        while any(thread.is_alive() for thread in threads):
            for piece, thread in zip(pieces, threads, strict=True):
                piece.work.election.withdraw()
                thread.join(0.05)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for piece, error in failures:
        if not isinstance(error, IncumbentError):
            raise error
        piece.voice.error(f"{piece.name}: {error}")
    if failures:
        return codes.code_of(failures[0][1])
    return 128 + signals[0] if signals else codes.OK
