"""`manage.py incumbent_work`: the work of the project, in a process of its own."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from incumbent.apps.django.apps import works
from incumbent.runtime.flag import Flag
from incumbent.sync.work import Work

__all__ = ["Command"]

LOOK_EVERY_S = 1.0


class Command(BaseCommand):
    """Runs the work of INCUMBENT_WORK until it is told to end."""

    help = "Run the work of INCUMBENT_WORK: each is active in one process at a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the names."""
        parser.add_argument("names", nargs="*", metavar="NAME", help="only these")

    def handle(self, *args: Any, names: list[str], **options: Any) -> None:
        """Run it.

        Raises:
            CommandError: there is no such work, or some of it has failed for good.
        """
        chosen = self._chosen(names)
        ended = Flag()

        def end(number: int, frame: FrameType | None) -> None:
            ended.set()

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for work in chosen:
                work.start()
                self.stdout.write(f"{work.election.name}: a candidate")
            while not ended.wait(LOOK_EVERY_S) and any(work.running for work in chosen):
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            failures = [failure for work in chosen if (failure := _stopped(work))]
        if failures:
            raise CommandError("; ".join(failures))

    def _chosen(self, names: list[str]) -> list[Work]:
        there = {work.election.name: work for work in works()}
        if not there:
            raise CommandError("there is no work: list it in INCUMBENT_WORK, as 'shop.jobs.count'")
        unknown = sorted(set(names) - set(there))
        if unknown:
            raise CommandError(f"no work is called {unknown[0]!r}; there is: {', '.join(there)}")
        return [there[name] for name in names or there]


def _stopped(work: Work) -> str:
    try:
        work.stop()
    except Exception as error:
        return f"{work.election.name}: {error}"
    return ""
