"""The kernel's freezer: stops processes without a signal, as a container runtime's `pause` does.

In version 1 of cgroups a frozen process is deaf even to SIGKILL until it is thawed, so its files
stay locked and its sockets open: the hardest pause that there is. In version 2 it can be killed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from tests.faults.fleet import Process, Watch

_ROOT = Path("/sys/fs/cgroup")
_LIMIT_S = 10.0


class Freezer:
    """A group of its own. Close it, whatever happened."""

    def __init__(self, name: str) -> None:
        # Not the run's own: also a run that is being ended thaws what it froze.
        self._watch = Watch(threading.Event())
        self._above, self._old = _place()
        self._group = self._above / f"incumbent-faults-{os.getpid()}-{name}"
        self._group.mkdir()

    def freeze(self, find: Callable[[], list[Process]]) -> None:
        """Freeze all that `find` finds; return when they stand still, and it finds no others."""
        inside: set[int] = set()
        while fresh := {process.pid for process in find()} - inside:
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError):
                    (self._group / "cgroup.procs").write_text(str(pid))
            inside |= fresh
            self._set(frozen=True)
            self._watch.until("frozen", _LIMIT_S, self._is_frozen)

    def _is_frozen(self) -> bool | None:
        file, text = ("freezer.state", "FROZEN") if self._old else ("cgroup.events", "frozen 1")
        return text in (self._group / file).read_text() or None

    def thaw(self) -> None:
        """Let them go on."""
        self._set(frozen=False)

    def _set(self, *, frozen: bool) -> None:
        if self._old:
            (self._group / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (self._group / "cgroup.freeze").write_text("1" if frozen else "0")

    def close(self) -> None:
        """Thaw what is left, move it back to where it came from, and remove the group."""
        self._set(frozen=False)

        def is_gone() -> bool | None:
            for pid in (self._group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self._above / "cgroup.procs").write_text(pid)
            try:
                self._group.rmdir()
            except OSError:
                return None  # Something in there is still dying.
            return True

        self._watch.until("the freezer is empty", _LIMIT_S, is_gone)


def why_not() -> str:
    """Return why nothing can be frozen here, or ""."""
    try:
        above, _ = _place()
        probe = above / f"incumbent-faults-{os.getpid()}-probe"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no freezer of cgroups: {error}"
    return ""


def _place() -> tuple[Path, bool]:
    """Return the group that we are in, and whether it is of version 1."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path.lstrip("/")
    old = "freezer" in groups
    root = _ROOT / "freezer" if old else _ROOT
    inside = root / groups["freezer" if old else ""]
    return (inside if inside.exists() else root), old
