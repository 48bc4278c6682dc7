"""The scheduler that Celery's beat loads: a candidate, whose schedule is at work in one process.

Beat's own loop only looks whether the work goes on; the schedule is judged, and the tasks are sent,
in the thread that leads, so that the end of a term ends it, and the kernel ends a beat that does
not. Beat is then started anew by whatever supervises it, as after any crash.

Of what a term sends, each message has two headers: `incumbent_token`, and `incumbent_tick`, the
number of its entry's tick.
"""

from __future__ import annotations

import copy
import logging
from datetime import datetime
from typing import Any

from celery import beat
from kombu.exceptions import OperationalError

from incumbent.apps.celery.dispatch import Dispatch
from incumbent.apps.celery.notes import Note
from incumbent.errors import ConfigError
from incumbent.sync.work import Work

__all__ = ["Scheduler"]

SETTING = "incumbent_beat"
KNOWN = ("name", "store", "state", "ttl_s", "grace_s", "rho", "as_", "require")
NAME = "celery-beat"
LOOK_EVERY_S = 1.0

log = logging.getLogger("incumbent")


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Sends what is due while this process leads, as `app.conf.incumbent_beat` says."""

    max_interval = 5  # foreign name: Celery calls it so
    """A step of the wall clock is seen after so many seconds."""

    _work: Work | None = None
    _begun = False

    def setup_schedule(self) -> None:
        """Read the schedule and the settings; nothing else is touched yet.

        Raises:
            ConfigError: a setting cannot work; the message says what to change.
        """
        super().setup_schedule()
        given = dict(self.app.conf.get(SETTING) or {})
        unknown = sorted(set(given) - set(KNOWN))
        if unknown:
            raise ConfigError(
                f"{SETTING}: there is no setting {unknown[0]!r}; there is: {', '.join(KNOWN)}"
            )
        self._work = Work(given.pop("name", NAME), Dispatch(self), **given)

    def tick(self, *args: Any, **values: Any) -> float:
        """Begin to contend; later, look whether that goes on.

        Raises:
            Exception: what has ended it for good.
        """
        if self._work is not None:
            if not self._begun:
                self._begun = True
                self._work.start()
            elif not self._work.running:
                self._work.stop()
        return LOOK_EVERY_S

    def close(self) -> None:
        """Hand over, and let go of the broker."""
        try:
            if self._work is not None:
                self._work.stop()
        finally:
            super().close()

    # -- what `Dispatch` asks, in the thread that leads -------------------------------------------

    def take_over(self, notes: dict[str, Note]) -> dict[str, Note]:
        """Go on from these notes; return one for each entry there is."""
        zone = self.app.timezone
        taken: dict[str, Note] = {}
        for name, entry in self.schedule.items():
            note = notes.get(name)
            if note is None:
                entry.last_run_at = entry.default_now()
                note = _note(entry)
            else:
                entry.last_run_at = datetime.fromtimestamp(note.last_run_at, zone)
                entry.total_run_count = note.count
            taken[name] = note
        return taken

    def due(self) -> tuple[list[str], float]:
        """Return which entries are due, and after how many seconds to ask again."""
        names: list[str] = []
        wait_s = float(self.max_interval)
        for name, entry in self.schedule.items():
            try:
                is_due, next_s = self.is_due(entry)
            except Exception:
                log.exception("beat cannot tell when %r is due next, and tries again", name)
                continue
            if is_due:
                names.append(name)
            elif next_s is not None:
                wait_s = min(wait_s, float(next_s))
        return names, wait_s

    def claim(self, name: str) -> Note:
        """Count an entry's tick as of now; the next one is judged from there."""
        return _note(self.reserve(self.schedule[name]))

    def send(self, name: str, note: Note, token: int | None) -> bool:
        """Send the task; tell whether it need not be tried again."""
        once = copy.copy(self.schedule[name])
        once.options = {
            **once.options,
            "task_id": note.message,
            "headers": {
                **(once.options.get("headers") or {}),
                "incumbent_token": token,
                "incumbent_tick": note.count,
            },
        }
        try:
            self.apply_async(once, producer=self.producer, advance=False)
        except Exception as error:
            if _may_pass(error):
                log.warning("%r was not sent, and is tried again: %s", name, error)
                return False
            log.exception("%r cannot be sent, and is passed over", name)
        else:
            log.info("%r was sent: tick %d, token %s", name, note.count, token)
        return True

    def _ensure_connected(self) -> Any:
        """Connect once, where Celery tries a hundred times: the term may end meanwhile."""
        return self.connection.ensure_connection(max_retries=1)


def _note(entry: Any) -> Note:
    return Note(entry.last_run_at.timestamp(), entry.total_run_count)


def _may_pass(error: BaseException) -> bool:
    """Tell whether it is the broker that failed; Celery wraps whatever was raised."""
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, (OperationalError, OSError)) for cause in causes)
