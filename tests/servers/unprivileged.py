"""Database servers refuse to be root, so where the tests are, they run as the package's own user.

Such a server is a family of processes, of which only the first one is our child: to pause or kill
it means all of them. And its data are in a folder of their own, since that user cannot pass through
those of pytest.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.processes import descendants, stat
from tests.servers.process import ServerError, ServerProcess

PASSWORD = "a:word/with@some%marks"
"""One that has to be quoted in a URL."""


class Unprivileged(ServerProcess):
    """A server that runs as `user` if we are root, with data in `folder`.

    What a subclass puts into `command` may name the folder before `prepare` has filled it.
    """

    def __init__(
        self,
        name: str,
        user: str,
        command: Callable[[Path], Sequence[str | os.PathLike[str]]],
        *,
        ready: Callable[[], bool],
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"incumbent-{name}-", dir=_place()))
        self._user = user if os.geteuid() == 0 else None
        words = self.as_user(*command(self.folder))
        super().__init__(name, words, log_path=self.folder / "log", ready=ready)

    def as_user(self, *words: str | os.PathLike[str]) -> list[str]:
        """Return a command that runs these words as the server's user, and dies with us."""
        found = shutil.which(os.fspath(words[0]))
        if found is None:
            raise ServerError(f"there is no {words[0]}: run make apt, or see APT_PACKAGES")
        plain = [found, *(os.fspath(word) for word in words[1:])]
        if self._user is None:
            return plain
        setpriv = shutil.which("setpriv") or "setpriv"
        user = f"--reuid={self._user}"
        return [
            setpriv,
            user,
            f"--regid={self._user}",
            "--clear-groups",
            "--pdeathsig=KILL",
            *plain,
        ]

    def give(self, *paths: Path) -> None:
        """Make files the server's own."""
        for path in paths:
            if self._user is not None:
                shutil.chown(path, self._user, self._user)

    def signal_first(self, number: signal.Signals) -> None:
        """Send a signal to the first process."""
        os.kill(self.pid, number)

    def family(self) -> list[int]:
        """Return the ids of all processes of the server, the first one first."""
        return [self.pid, *descendants(self.pid)] if self.running else []

    def kill(self) -> None:
        """End every process of the server."""
        rest = self.family()[1:]
        super().kill()
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _await_end(rest)

    def pause(self) -> None:
        """Stop every process of the server; the first one first, so that none is added."""
        super().pause()
        for pid in self.family()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of them go on."""
        for pid in self.family()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        super().resume()

    def save_data(self, name: str) -> None:
        """Keep a copy of the data of a server that ended, under a name."""
        self._copy("data", name)

    def restore_data(self, name: str) -> None:
        """Put such a copy in the place of the data."""
        self._copy(name, "data")

    def _copy(self, one: str, other: str) -> None:
        if self.running:
            raise ServerError(f"{self.name} still uses its data")
        shutil.rmtree(self.folder / other, ignore_errors=True)
        # With its owner, which Python's own copies do not keep.
        subprocess.run(["cp", "-a", self.folder / one, self.folder / other], check=True)

    def remove_data(self) -> None:
        """Delete the data of a server that ended."""
        if self.running:
            raise ServerError(f"{self.name} still uses its data")
        shutil.rmtree(self.folder, ignore_errors=True)


def _place() -> Path:
    """Return a folder for temporary files that every user can pass through."""
    chosen = Path(tempfile.gettempdir())
    passable = all(folder.stat().st_mode & 0o001 for folder in (chosen, *chosen.parents))
    return chosen if passable else Path("/tmp")


def _await_end(pids: Sequence[int]) -> None:
    """Wait until processes that are not our children are gone, or only their shells are left."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                if stat(pid, 0) not in ("", "Z"):
                    select.select([fd], [], [], 10.0)
            finally:
                os.close(fd)
