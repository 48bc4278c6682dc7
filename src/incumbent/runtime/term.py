"""What users hold in their hands while they lead.

A term answers one question, "may I still act?", from a number in memory: `check()` reads the
boot-time clock and compares. There is no way to ask "am I the leader?" that gives a value to keep:
`bool(term)` raises, because an answer that was true when it was given is the bug of this field.

After `fork` every term in the child is void, by an at-fork hook. A fork that does not go through
Python (a C extension that calls fork itself) does not run the hook.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence

from incumbent.clock import Clock, boottime
from incumbent.core.fence import Trust
from incumbent.errors import LeadershipLost
from incumbent.runtime.flag import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from incumbent.fencing import Fence

__all__ = ["Term"]

LostCallback = Callable[["Term"], None]

_VOID = Trust()
_VOID.void()
_LIVE: weakref.WeakSet[Term] = weakref.WeakSet()


class Term:
    """One uninterrupted holding of an election.

    Attributes:
        name: the election.
        identity: this candidate.
        token: the fencing token: greater than that of every earlier term. Give it to whatever you
            write to, and have it refuse smaller ones. None if the store has none.
        id: unique for this term, in logs and records.
        lost: set as soon as the term is to end, for whatever reason: stop what you are doing.
        cause: why it is to end; "" until then.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_clock",
        "_ended",
        "_fds",
        "_lock",
        "_trust",
        "cause",
        "id",
        "identity",
        "lost",
        "name",
        "token",
    )

    def __init__(
        self,
        *,
        name: str,
        identity: str,
        token: int | None,
        term: str,
        trust: Trust,
        clock: Clock = boottime,
        inherited_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.identity = identity
        self.token = token
        self.id = term
        self.lost = Flag()
        self.cause = ""
        self._ended = False
        self._trust = trust
        self._clock = clock
        self._fds = tuple(inherited_fds)
        self._callbacks: list[LostCallback] = []
        self._lock = threading.Lock()
        _LIVE.add(self)

    def check(self) -> None:
        """Return if this term may still act now; takes well under a microsecond.

        It holds for the instant at which it is asked. Between it and the effect there is a gap
        that only a fencing token, checked by the resource, can close.

        Raises:
            LeadershipLost: the term is over, or can no longer be trusted.
        """
        if self._clock() >= self._trust.valid_until:
            raise LeadershipLost(self._explain())

    def remaining(self) -> float:
        """Return for how many seconds the term is trusted as things are; 0.0 if it is over."""
        return max(0.0, self._trust.valid_until - self._clock())

    def fence(self, resource: str) -> Fence:
        """Return what puts this term's token into writes to `resource`: see `incumbent.fencing`.

        Raises:
            ConfigError: the store gives no token.
        """
        from incumbent.fencing import Fence

        return Fence(resource, self.token, self.check)

    @property
    def ended(self) -> bool:
        """Tell whether the term is to end, or has ended."""
        return self._ended

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """File descriptors to give to every child process that does the term's work.

        In the stores on one host's disk they carry the evidence of death: as long as a child has
        one, nobody takes over early because this process died.
        """
        return self._fds

    def on_lost(self, callback: LostCallback) -> None:
        """Call `callback(term)` as soon as the term is to end; at once if it is already.

        It runs on the keeper's thread and must return quickly.
        """
        with self._lock:
            if not self._ended:
                self._callbacks.append(callback)
                return
        callback(self)

    def __bool__(self) -> bool:
        """Refuse.

        Raises:
            TypeError: always. Ask `check()` just before each effect.
        """
        raise TypeError(
            "a term has no truth value, since it would be stale as soon as it is read: call "
            "term.check() just before each effect"
        )

    def __repr__(self) -> str:
        """Return what identifies the term."""
        return f"<Term {self.name} token={self.token} {self.identity}>"

    # -- for the driver ---------------------------------------------------------------------------

    @property
    def valid_until(self) -> float:
        """The instant of the boot-time clock up to which the term is trusted as things are."""
        return self._trust.valid_until

    def end(self, cause: str) -> None:
        """Tell everybody that the term is to end. What is trusted stays so until its time."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.cause = cause
            self._signal()
            callbacks, self._callbacks = self._callbacks, []
        first: BaseException | None = None
        for callback in callbacks:
            try:
                self._run(callback)
            except BaseException as error:  # `sys.exit()`, say: the others are called all the same.
                first = first or error
        if first is not None:
            raise first

    def _signal(self) -> None:
        self.lost.set()

    def _run(self, callback: LostCallback) -> None:
        try:
            callback(self)
        except Exception:
            logging.getLogger("incumbent").exception("a callback of %r raised", self)

    def void(self, cause: str = "") -> None:
        """End the trust of this term at once, whatever else is held under its lease."""
        self._trust = _VOID
        if cause and not self.cause:
            self.cause = cause

    def forked(self) -> None:
        """In a forked child: this is nobody's term any more, and no thread will say so later.

        Callbacks are dropped, since what they stop is the parent's. A lock may have been copied
        while some other thread held it.
        """
        self._lock = threading.Lock()
        self._callbacks = []
        self._ended = True
        self.lost = Flag()
        self.lost.set()
        # Not by `void`: a subclass may tell other processes, and to those the term is valid.
        Term.void(self, "this process was forked from the one that leads")

    def _explain(self) -> str:
        until = self._trust.valid_until
        why = f": {self.cause}" if self.cause else ""
        if until == -math.inf:
            return f"the term of {self.name!r} (token {self.token}) is over{why}"
        late = self._clock() - until
        return (
            f"the term of {self.name!r} (token {self.token}) was not confirmed in time and has "
            f"not been trusted for {late:.3f} s{why}"
        )


def _void_all_in_child() -> None:
    for term in list(_LIVE):
        term.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_void_all_in_child)
