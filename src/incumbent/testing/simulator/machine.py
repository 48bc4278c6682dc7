"""The twin of the machine under the embedded store: its kernel, its threads, and their deaths.

The files are real, in a folder in memory, and so are SQLite and the locks: a lock of `flock`
belongs to the open file, whoever is simulated as having it. What is replaced is what takes time or
fails:

    a thread    does its jobs in order, each at some instant, also after the caller has lost
                interest; while its process is stopped, at most what the kernel had taken over
    a request   may fail before it has an effect, or after (nobody knows); the process may be killed
                on either side of the commit, or stopped after it
    the kernel  tells of what happened to a file later, keeps it back, or says that it lost count
    a lock      is dropped a moment after the event; and not at all while a child has it

A job is one step: what two processes do to SQLite at one instant is SQLite's own affair, and here
they take turns.

Warning: a killed process runs nothing, but its objects are taken apart by Python some time later,
and what then runs in a `finally` must touch nothing. And a connection of a killed process stays
open until the history ends, since to close it in good order would clear the log away.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from incumbent.errors import OutcomeUnknown, StoreFull, StoreUnavailable
from incumbent.stores.local.inotify import CLOSED, MODIFIED, OVERFLOWN, Inotify, Notice
from incumbent.stores.local.locks import LockFolder
from incumbent.stores.sqlite.machine import Machine
from incumbent.stores.sqlite.tables import Tables
from incumbent.testing.simulator.network import Fate, Subscription
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.world import World

__all__ = ["Kernel", "Killed", "TwinInotify", "TwinLocks", "TwinMachine", "TwinThread"]

T = TypeVar("T")

_Inode = tuple[int, int]

LATEST_DROP_S = 0.05
"""How long after the event a lock is dropped at most: half as long as the store is patient."""


OpenTables = Callable[["TwinMachine", Path, str], Tables]


class Killed(BaseException):
    """The process was killed here: nothing after this line happens."""


class Kernel:
    """What is known to the one kernel under all the processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.watching: list[TwinInotify] = []
        self.latest_drop_s = LATEST_DROP_S
        self.full = False
        """Whether the disk is."""
        self.created_at = 1e9 + 1e-3 * world.rng.random()
        self._descriptors = 0

    def wall(self) -> float:
        """Read the machine's wall clock, on which the tokens of a new database begin."""
        return self.created_at + self.world.now

    def descriptor(self) -> int:
        """Return the number of a file that is none."""
        self._descriptors += 1
        return -1 - self._descriptors

    def changed(self, inode: _Inode, mask: int) -> None:
        """Tell whoever watches a file what happened to it."""
        for instance in self.watching:
            instance.happened(inode, mask)

    def closed(self, path: Path) -> None:
        """Tell that somebody who had the file open has closed it."""
        if path.exists():
            self.changed(_inode(path), CLOSED)

    def rung(self, bell: Path) -> None:
        """Tell that the bell file was written to."""
        self.changed(_inode(bell), MODIFIED)

    def unlink(self, path: Path) -> None:
        """Remove a file, if it is there; what is open of it lives on."""
        try:
            inode = _inode(path)
        except OSError:
            return
        path.unlink()
        self.changed(inode, 0x004)


def _inode(path: Path | int) -> _Inode:
    status = os.stat(path)
    return status.st_dev, status.st_ino


class TwinMachine(Machine):
    """The machine as one process has it."""

    def __init__(self, kernel: Kernel, process: Process, tables: OpenTables) -> None:
        self.kernel = kernel
        self.process = process
        self.open_tables = tables
        self.gone = False
        """Whether nothing of the process may have an effect any more."""
        self.held: TwinLocks | None = None
        self.threads: list[TwinThread] = []
        self.fate: Fate | None = None
        self._rung = False
        self._untold = False
        self._chance = random.Random(process.world.rng.getrandbits(32))

    def hindered(self, since: float) -> bool:
        """Tell whether it still does what it began before `since`, or hears what was said then."""
        world = self.process.world
        listening = [one for one in self.kernel.watching if one.of(self.process)]
        return any(thread.stuck_since(since) for thread in self.threads) or any(
            one.next_at > world.now + self.process.host.timing.attempt_s for one in listening
        )

    def chance(self, size: int) -> str:
        """Return random bytes, of which the seed decides."""
        return self._chance.randbytes(size).hex()

    def thread(self) -> TwinThread:
        """Start a thread."""
        thread = TwinThread(self)
        self.threads.append(thread)
        return thread

    def inotify(self) -> TwinInotify:
        """Return an inotify instance."""
        return TwinInotify(self.kernel, self.process)

    def locks(self, folder: Path) -> TwinLocks:
        """Return the lock files in `folder`."""
        self.held = TwinLocks(folder, self)
        return self.held

    def tables(self, path: Path, opener: str, *, create: bool) -> Tables:
        """Open the database, for a candidate: somebody who only looks is not simulated."""
        self.before(writes=False)
        return self.open_tables(self, path, opener)

    def ring(self, bell: int) -> None:
        """Write to the bell file; the one who was just stopped does so when it goes on."""
        if self.gone:
            return
        self._rung, self._untold = True, False
        if self.process.frozen:
            self.process.when_thawed(lambda: self.ring(bell))
            return
        super().ring(bell)
        self.kernel.changed(_inode(bell), MODIFIED)

    # -- what a request meets ---------------------------------------------------------------------

    def before(self, *, writes: bool) -> None:
        """Meet what is in the way of a request."""
        fate = self.fate
        if fate is None:
            return
        if writes and fate.dies == "before":
            self._kill(fate)
        if writes and self.kernel.full:
            raise StoreFull("no room: free space on its disk; nothing was changed")
        if fate.request_lost:
            raise StoreUnavailable("database is locked")

    def begins(self, fate: Fate) -> None:
        """Begin a job."""
        self.fate, self._rung = fate, False

    def idle(self) -> None:
        """Have no job left to do: everything has been told by now."""
        if self._untold:
            self.process.judge.misrung(self.process.label, "committed, and rings no bell")
            self._untold = False

    def after(self, *, news: bool = True) -> None:
        """Meet what comes between the commit and everything else."""
        if news and self._rung:
            self.process.judge.misrung(self.process.label, "rings the bell before it commits")
        fate = self.fate
        if fate is None:
            return
        if fate.dies == "after":
            self._kill(fate)
        if fate.stops_s and not self.process.frozen:
            process = self.process
            process.pause()
            process.world.after(fate.stops_s, process.resume)
        if fate.answer_lost and fate.reset:
            raise OutcomeUnknown("disk I/O error")
        self._untold = news

    def _kill(self, fate: Fate) -> None:
        self.process.die(f"killed {fate.dies} the commit")
        raise Killed


@dataclass(slots=True)
class _Job:
    """A job of a thread.

    Attributes:
        verb: what it is, for whoever waits for such a one.
        handed_over: whether the kernel does it while the process is stopped, too.
    """

    verb: str
    call: Callable[[], Any]
    future: Future[Any]
    fate: Fate | None = None
    handed_over: bool = False


class TwinThread:
    """The twin of `incumbent.stores.local.worker.Worker`."""

    def __init__(self, machine: TwinMachine) -> None:
        self.verb = ""
        """What the next job is, for whoever waits for such a one."""
        self._machine = machine
        self._process = machine.process
        self._world = machine.process.world
        self._jobs: deque[_Job] = deque()
        self._busy = False
        self._busy_since = 0.0

    def stuck_since(self, instant: float) -> bool:
        """Tell whether it does since then, or longer, what takes so long."""
        return self._busy and self._busy_since <= instant

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Do `job` after everything before."""
        future: Future[T] = Future()
        verb, self.verb = self.verb, ""
        self._jobs.append(_Job(verb, job, future))
        if not self._busy:
            self._next()
        return future

    def close(self) -> None:
        """Do nothing: a thread without jobs is none."""

    def _next(self) -> None:
        self._busy = False
        while self._jobs:
            job = self._jobs.popleft()
            if job.future.set_running_or_notify_cancel():
                self._busy, self._busy_since = True, self._world.now
                self._begin(job)
                return
        self._machine.idle()

    def _begin(self, job: _Job) -> None:
        process, link = self._process, self._process.link
        job.fate = fate = link.fate(job.verb)
        attempt_s = process.host.timing.attempt_s
        kind = ""
        if fate.request_lost:
            kind = "request failed"
            fate.request_s += 0.0 if fate.reset else attempt_s * 2 * self._world.rng.random()
        elif fate.answer_lost:
            kind = "outcome unknown" if fate.reset else "answer late"
            fate.answer_s += 0.0 if fate.reset else attempt_s * 2 * self._world.rng.random()
        if kind:
            link.network.faults[kind] += 1
        if self._world.writing:
            text = f"begins to {job.verb or 'ask for changes'}" + (f" ({kind})" if kind else "")
            self._world.write(process.label, text)
        job.handed_over = self._world.rng.random() < 0.5
        self._world.after(fate.request_s, self._do, job)

    def _do(self, job: _Job) -> None:
        process, machine, fate = self._process, self._machine, job.fate
        if machine.gone or fate is None:
            return
        if process.frozen and not job.handed_over:
            process.when_thawed(partial(self._do, job))
            return
        if not process.link.open:
            if not process.link.refusing:
                process.link.when_open(partial(self._do, job))
                return
            fate.request_lost = True
        result: Any = None
        error: BaseException | None = None
        machine.begins(fate)
        try:
            result = job.call()
        except Killed:
            return
        except BaseException as raised:
            error = raised
        finally:
            machine.fate = None
        if self._world.writing:
            outcome = "done" if error is None else f"{type(error).__name__}: {error}"
            self._world.write("sqlite", f"{job.verb or 'changes'} of {process.label}: {outcome}")
        self._world.after(fate.answer_s, self._answer, job, result, error)
        process.loop.run()

    def _answer(self, job: _Job, result: Any, error: BaseException | None) -> None:
        if self._machine.gone:
            return
        if self._process.frozen:
            self._process.when_thawed(partial(self._answer, job, result, error))
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
        self._next()
        self._process.loop.run()


class TwinInotify(Inotify):
    """One inotify instance, whose events travel over the process's link."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self._kernel = kernel
        self._process = process
        self._number = 0
        self._watches: dict[_Inode, tuple[int, int]] = {}
        self._came: deque[Notice] = deque()
        self._descriptor = kernel.descriptor()
        self._subscription: Subscription[Notice] = Subscription(None, self._arrive)
        process.link.subscriptions.append(self._subscription)
        kernel.watching.append(self)

    def fileno(self) -> int:
        """Return what stands for the descriptor."""
        return self._descriptor

    def watch(self, path: Path, mask: int) -> int:
        """Watch the file that has the name now."""
        inode = _inode(path)
        if inode in self._watches:
            number, _ = self._watches[inode]
        else:
            self._number = number = self._number + 1
        self._watches[inode] = (number, mask)
        return number

    def unwatch(self, number: int) -> None:
        """Watch no more."""
        for inode, (known, _) in list(self._watches.items()):
            if known == number:
                del self._watches[inode]

    def read(self) -> Iterator[Notice]:
        """Return what has come."""
        while self._came:
            yield self._came.popleft()

    def close(self) -> None:
        """Hear nothing more."""
        self._subscription.alive = False
        if self in self._kernel.watching:
            self._kernel.watching.remove(self)

    def happened(self, inode: _Inode, mask: int) -> None:
        """Take note of what happened to a file."""
        number, wanted = self._watches.get(inode, (0, 0))
        if mask & wanted:
            self._process.link.notify(self._subscription, Notice(number, mask & wanted))

    def overflow(self) -> None:
        """Lose what is kept back and what has not been read, and say so."""
        self._subscription.catch_up()
        self._came.clear()
        self._process.link.notify(self._subscription, Notice(-1, OVERFLOWN))

    @property
    def next_at(self) -> float:
        """When the last event that is on its way arrives."""
        return self._subscription.last_at

    def of(self, process: Process) -> bool:
        """Tell whether it belongs to this process."""
        return self._process is process

    def _arrive(self, event: Notice) -> None:
        if self._came and self._came[-1] == event:
            return  # The kernel puts two of a kind together.
        self._came.append(event)
        self._process.loop.readable(self._descriptor)


class TwinLocks(LockFolder):
    """The real lock files, in the hands of a process that can be killed."""

    def __init__(self, folder: Path, machine: TwinMachine) -> None:
        super().__init__(folder)
        self._machine = machine
        self.is_over: Callable[[str], bool]
        """Whether a session is."""
        self._dropping: set[str] = set()

    def drop(self, key: str) -> None:
        """Close the file, which the kernel tells others."""
        fd = self._held.get(key)
        if self._machine.gone:
            return
        inode = _inode(fd) if fd is not None else None
        self._dropping.add(key)
        super().drop(key)
        if inode is not None:
            self._machine.kernel.changed(inode, CLOSED)

    def remove(self, key: str) -> None:
        """Remove a file, unless nothing of this process happens any more."""
        if self._machine.gone:
            return
        if key not in self._dropping and self.path(key).exists() and not self.is_over(key):
            process = self._machine.process
            process.judge.unlocked(process.label)
        super().remove(key)

    def leave(self, *, to_child: bool) -> tuple[Inheritance, Inheritance]:
        """Return the files that the process had open: what a child inherits, and the others."""
        held, self._held = self._held, {}
        while self._mappings:  # Of a memory that is gone.
            self._mappings.popitem()[1].close()
        children = {key: fd for key, fd in held.items() if to_child and os.get_inheritable(fd)}
        others = {key: fd for key, fd in held.items() if key not in children}
        return Inheritance(self._machine.kernel, children), Inheritance(
            self._machine.kernel, others
        )


@dataclass(slots=True)
class Inheritance:
    """Lock files that are open in whatever is left of a process."""

    kernel: Kernel
    held: dict[str, int]

    def close(self) -> None:
        """Close them, as the kernel does: first it tells, then it drops the lock."""
        world = self.kernel.world
        for fd in self.held.values():
            self.kernel.changed(_inode(fd), CLOSED)
            world.after(self.kernel.latest_drop_s * world.rng.random() ** 2, self._drop, fd)

    def end(self) -> None:
        """Close what is open, with nobody left to be told."""
        for fd in self.held.values():
            os.close(fd)
        self.held = {}

    def _drop(self, fd: int) -> None:
        for key, known in list(self.held.items()):
            if known == fd:
                del self.held[key]
                os.close(fd)
