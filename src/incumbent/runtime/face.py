"""What the two faces have in common: all but how one waits, and how work is stopped.

`incumbent.sync` and `incumbent.aio` are two ways to wait for the same candidate. Whatever does not
depend on the way is here, so that there is one constructor, one way to give up and one rule of when
a term may be said to have ended.

Rule: a seat says "all work has ended" (`leave`) only if nothing of the work can be alive. Isolated
work is the case in which that may be unknown: then the seat withdraws without saying so, the
elector becomes STUCK, and nothing is released.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import (
    isasyncgen,
    isasyncgenfunction,
    iscoroutine,
    iscoroutinefunction,
    isgenerator,
    isgeneratorfunction,
)
from typing import Any, Generic, TypeVar

from incumbent.clock import boottime
from incumbent.core.events import Why
from incumbent.errors import ConfigError, LeadershipLost, StoreRequired, Withdrawn
from incumbent.runtime.candidacy import Candidacy, Observer
from incumbent.runtime.driver import TermFactory
from incumbent.runtime.isolate import Isolation, refuse_while_loading
from incumbent.runtime.settings import REQUIREMENTS, Settings, check_timeout
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.threads import on_keepers_thread

__all__ = [
    "Election",
    "Hold",
    "Misuse",
    "Seat",
    "checked",
    "is_awaited",
    "name_of",
    "refuse_async",
    "refuse_coroutine",
    "refuse_generator",
]


class Election:
    """The settings of an election, and who leads."""

    def __init__(
        self,
        name: str,
        *,
        store: str | Store | None = None,
        ttl_s: float | None = None,
        grace_s: float | None = None,
        rho: float | None = None,
        as_: str | None = None,
        require: str = "",
        observer: Observer | None = None,
    ) -> None:
        """Check the settings; nothing is touched yet.

        That no store was named where one must be (in a container) is said by whoever leads: a
        module is also imported by what never does, a test or the build of an image.

        Args:
            name: the election: what all replicas share.
            store: URL of the store, or a `Store`, which is good for the process that opens it; if
                None, `INCUMBENT_STORE`, or the embedded one.
            ttl_s: time to live of the lease, in seconds; 15 unless `INCUMBENT_TTL` says otherwise.
            grace_s: how long the work may take to stop, in seconds; a fifth of the trusted time.
            rho: the greatest clock-rate error of any host, as a share of one; 0.1.
            as_: the first part of this candidate's identity; the Pod's or the host's name.
            require: "token", "exclusive" or "renewal": refuse a store or set-up without it.
            observer: called with a `Sighting` for everything that happens, on the keeper's thread.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        if observer is not None and not callable(observer):
            raise ConfigError(f"observer={observer!r} must be a function, which gets `Sighting`s")
        self.name = name
        self._settings = partial(
            Settings.resolve,
            name,
            store=store,
            ttl_s=ttl_s,
            grace_s=grace_s,
            rho=rho,
            as_=as_,
            require=require,
        )
        self._observer = observer
        self._leading: Seat | None = None
        # As the most demanding call would be: what it could not do either is refused here.
        checked(self._settings, require)

    @property
    def leads(self) -> bool:
        """Whether this object leads by `lead`, for tools beside the work.

        It may be over when it is read. The work asks `term.check()`.
        """
        return self._leading is not None and self._leading.leads

    @property
    def token(self) -> int | None:
        """The token under which this object leads by `lead`, for tools beside the work."""
        term = None if self._leading is None else self._leading.term
        return None if term is None else term.token

    def step_down(self, to: str = "") -> None:
        """Hand over, if this object leads by `lead`. May be called from any thread.

        Args:
            to: the candidate that shall follow, or "" for anybody.
        """
        if self._leading is not None:
            self._leading.step_down(to)

    def withdraw(self) -> None:
        """End `lead`, which raises `Withdrawn` when the work has stopped and nothing is held.

        May be called from any thread. Who does not lead, and does not wait to, is left alone.
        """
        if self._leading is not None:
            self._leading.dismiss()


def checked(settings: Callable[..., Settings], require: str) -> Settings | None:
    """Return the settings; or None, after all other checks, if no store was named yet.

    Raises:
        ConfigError: some setting cannot work; the message says what to change.
    """
    try:
        return settings(isolated=True)
    except StoreRequired:
        other = require if require not in REQUIREMENTS else ""
        settings(isolated=True, store="memory://no-store-yet", require=other)
        return None


E = TypeVar("E", bound=Election)


class Hold(Generic[E]):
    """What `Election.hold` was asked for."""

    def __init__(self, election: E, timeout_s: float | None, deadman: bool) -> None:
        check_timeout(timeout_s)
        self._election = election
        self._timeout_s = timeout_s
        self._deadman = deadman


class Seat(Candidacy):
    """A candidate for whom one thread or task waits.

    Attributes:
        was_lost: whether the last term ended without our doing.
        given_up: whether nobody waits any more, so that `leave` was said already.
        dismissed: whether somebody else ended it (`dismiss`), which whoever waits is told.
    """

    def __init__(
        self,
        settings: Settings,
        observer: Observer | None,
        isolation: Isolation | None,
        term_factory: TermFactory,
    ) -> None:
        refuse_while_loading()
        super().__init__(
            settings, observer, isolation.term if isolation else term_factory, isolation
        )
        self.isolation = isolation
        self.was_lost = False
        self.given_up = False
        self.dismissed = False

    def dismiss(self) -> None:
        """Withdraw, and have whoever waits for a term told so."""
        self.dismissed = True
        self.close()

    def reason(self, error: BaseException | None) -> BaseException | None:
        """Return what to raise where a term was waited for, now that there will be none."""
        if error is None and self.dismissed:
            return Withdrawn(f"{self.settings.name!r} was withdrawn")
        return error

    def sick(self, cause: str) -> None:
        """Hand over: the work is not well."""
        self.step_down(cause=cause)

    def withdraw(self) -> bool:
        """Say that nobody works here any more, and tell whether to wait for `on_closed`.

        Not in a thread of ours: a callback may close what holds (`ExitStack.close`), and the
        garbage collector a generator in a `with`, in whatever thread it runs. The keeper would wait
        for itself, and nobody would be told any more that a lease was lost.
        """
        if self.given_up:
            return False
        if self.isolation is not None and self.isolation.unconfirmed:
            self.close()
            return False
        self.leave()
        return self.here and not on_keepers_thread()

    def limit_s(self, timeout_s: float | None) -> float | None:
        """Return for how long to wait at most; one try has the time of one request."""
        return self.settings.timing.attempt_s if timeout_s == 0 else timeout_s

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Remember whether the term was lost, and stop the work in another process."""
        self.was_lost = not why.planned
        if self.isolation is not None:
            self.isolation.request_stop(deadline - boottime() - self.settings.timing.kill_s)

    def outlived(self, term: Term) -> bool:
        """Tell whether the body, which has just ended, went on without its term.

        That was lost; or it was to end by plan, and the body went on until its time was over. In a
        forked child it is nobody's term, and its parent is told.
        """
        return self.was_lost or (self.here and not term.remaining())

    def loss(self, term: Term) -> LeadershipLost:
        """Return what to raise at the end of a body that did not notice."""
        return LeadershipLost(f"{term.name!r} was lost while the body ran: {term.cause}")


def name_of(call: Callable[..., Any]) -> str:
    """Return how to call `call` in a message."""
    return getattr(call, "__qualname__", None) or repr(call)


class Misuse(ConfigError, TypeError):
    """A function is of a kind that cannot be run here: no attempt of it would do anything."""


_ELECTION = "incumbent.aio.Election, which has the same names"


def refuse_async(call: Callable[..., Any], where: str, instead: str = _ELECTION) -> None:
    """Refuse a function whose call only makes what would do the work, after the term.

    Raises:
        Misuse: it is a coroutine function or a generator function.
    """
    for each in _bodies(call):
        if isgeneratorfunction(each):
            raise Misuse(_generator(call, where))
        if iscoroutinefunction(each) or isasyncgenfunction(each):
            raise Misuse(_asynchronous(call, where, instead))


def refuse_generator(call: Callable[..., Any], where: str) -> None:
    """Refuse a function that nobody could await: for the work of incumbent.aio.

    Raises:
        Misuse: it is a generator function, of either kind.
    """
    if any(isgeneratorfunction(each) or isasyncgenfunction(each) for each in _bodies(call)):
        raise Misuse(_generator(call, where))


def refuse_coroutine(
    result: object, call: Callable[..., Any], where: str, instead: str = _ELECTION
) -> None:
    """Refuse the result of a call that `refuse_async` could not see through, a lambda's say.

    Raises:
        Misuse: it is a coroutine or a generator, in which nothing has been done yet.
    """
    if result is None:
        return
    if iscoroutine(result):
        result.close()
        raise Misuse(_asynchronous(call, where, instead))
    if isgenerator(result) or isasyncgen(result):
        raise Misuse(_generator(call, where))


def is_awaited(call: Callable[..., Any]) -> bool:
    """Tell whether a call of it has to be awaited: of a function, an object, or a `partial`."""
    return any(iscoroutinefunction(each) for each in _bodies(call))


def _bodies(call: Callable[..., Any]) -> tuple[Any, ...]:
    while isinstance(call, partial):
        call = call.func
    return call, getattr(type(call), "__call__", None)  # noqa: B004  to look into it


def _generator(call: Callable[..., Any], where: str) -> str:
    return (
        f"{where} cannot run the generator function {name_of(call)}: its body would run "
        "after the term. Do the work in an ordinary function"
    )


def _asynchronous(call: Callable[..., Any], where: str, instead: str) -> str:
    return f"{where} cannot await {name_of(call)}, which is asynchronous: use {instead}"
