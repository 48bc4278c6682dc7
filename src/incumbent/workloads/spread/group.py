"""What both faces of a spread have in common: the settings, checked before anything is touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from incumbent.core.records import check_identity, check_name
from incumbent.errors import ConfigError
from incumbent.runtime.candidacy import Observer
from incumbent.runtime.driver import TermFactory
from incumbent.runtime.face import checked
from incumbent.runtime.settings import Settings, expect_number
from incumbent.stores.api import Store
from incumbent.workloads.spread.balance import Rules
from incumbent.workloads.spread.member import Member, Runner

__all__ = ["PAUSE_S", "Group"]

PAUSE_S = 0.25

W = TypeVar("W")


class Group(Generic[W]):
    """The settings of a spread, and what this replica holds."""

    def __init__(
        self,
        group: str,
        names: Iterable[str],
        work: W,
        *,
        store: str | Store | None = None,
        preferred: Mapping[str, str] | None = None,
        priority: Mapping[str, int] | None = None,
        at_most: int | None = None,
        pause_s: float = PAUSE_S,
        ttl_s: float | None = None,
        grace_s: float | None = None,
        rho: float | None = None,
        as_: str | None = None,
        require: str = "",
        observer: Observer | None = None,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            group: the name of the spread, the same on all replicas. It is the name of an election,
                too: who holds that may ask for a handover.
            names: the elections, the same on all replicas.
            work: called with a term whenever one of them is won; `term.name` says which.
            store: URL of the store, or a `Store`; if None, `INCUMBENT_STORE`, or the embedded one.
            preferred: for some elections, where they belong: a candidate, or what its identity
                begins with (`as_`, the Pod's or the host's name).
            priority: how important an election is, 0 if it is not here. The greater are taken first
                and moved last.
            at_most: how many this replica may hold. If all replicas are full, the rest is not held.
            pause_s: how long this replica waits at least before it asks for another one.
            ttl_s: time to live of each lease, in seconds; 15 unless `INCUMBENT_TTL` says otherwise.
            grace_s: how long each work may take to stop, in seconds; a fifth of the trusted time.
            rho: the greatest clock-rate error of any host, as a share of one; 0.1.
            as_: the first part of this replica's identity; the Pod's or the host's name.
            require: "token", "exclusive" or "renewal": refuse a store or set-up without it.
            observer: called with a `Sighting` for everything that happens, on the keeper's thread.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        if observer is not None and not callable(observer):
            raise ConfigError(f"observer={observer!r} must be a function, which gets `Sighting`s")
        self.group = group
        self.work = work
        self._settings = partial(
            Settings.resolve,
            group,
            store=store,
            ttl_s=ttl_s,
            grace_s=grace_s,
            rho=rho,
            as_=as_,
            require=require,
        )
        settings = checked(self._settings, require)
        if settings is not None:
            _refuse_misfit(settings)
        self._names = self._checked(names)
        self._rules = Rules(_homes(preferred), _priorities(priority), _limit(at_most))
        self._pause_s = _pause(pause_s)
        self._observer = observer
        self._member: Member | None = None

    @property
    def held(self) -> list[str]:
        """The elections whose work is done here now, for tools beside it. It may be over soon."""
        return [] if self._member is None else self._member.held

    def update(self, names: Iterable[str]) -> None:
        """Be a candidate in these elections from now on, and in no others. From any thread.

        The work of those that are not among them is stopped, and they are given up.

        Raises:
            ConfigError: some name cannot be one, or there is none.
        """
        self._names = self._checked(names)
        if self._member is not None:
            self._member.update(self._names)

    def stop(self) -> None:
        """Stop all work, give everything up, and let `run` return. From any thread."""
        if self._member is not None:
            self._member.leave()

    def _enter(self, runner: Runner, term_factory: TermFactory, *, deadman: bool) -> Member:
        """Return the member that runs now.

        Raises:
            ConfigError: this object runs already.
        """
        if self._member is not None:
            raise ConfigError(f"the spread {self.group!r} runs already: make another object")
        _refuse_misfit(self._settings(isolated=True))
        self._member = Member(
            self._settings(armed=deadman),
            self._names,
            self._rules,
            runner,
            term_factory,
            pause_s=self._pause_s,
            observer=self._observer,
        )
        return self._member

    def _checked(self, names: Iterable[str]) -> Collection[str]:
        if isinstance(names, str):
            raise ConfigError(f"names={names!r} must be several names, such as [{names!r}]")
        checked = [check_name(name) for name in names]
        if not checked:
            raise ConfigError("names is empty: a spread needs one election at least")
        if self.group in checked:
            raise ConfigError(
                f"{self.group!r} is the name of the spread, and of an election that says whose "
                "turn it is to ask for a handover: no election in it can have that name"
            )
        return dict.fromkeys(checked)


# Python names this one where an argument is wrong, and users know it by the name of its subclasses.
Group.__init__.__qualname__ = "Spread.__init__"


def _refuse_misfit(settings: Settings) -> None:
    have = settings.store.capabilities
    if not have.reads:
        raise ConfigError(
            f"{settings.store.url} cannot tell who holds an election, so nobody could see whose "
            "share is too large: use another store for a spread"
        )
    if have.queue:
        raise ConfigError(
            f"{settings.store.url} keeps candidates in a queue, in which nobody can be named as "
            "the successor: use the store's own format for a spread"
        )


def _homes(preferred: Mapping[str, str] | None) -> dict[str, str]:
    homes = dict(preferred or {})
    for name, home in homes.items():
        check_name(name)
        check_identity(home)
    return homes


def _priorities(priority: Mapping[str, int] | None) -> dict[str, int]:
    priorities = dict(priority or {})
    for name, number in priorities.items():
        check_name(name)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigError(f"priority[{name!r}]={number!r} must be an int")
    return priorities


def _limit(at_most: Any) -> int | None:
    if at_most is None:
        return None
    if not isinstance(at_most, int) or isinstance(at_most, bool) or at_most < 1:
        raise ConfigError(f"at_most={at_most!r} must be 1 or more, or None for no limit")
    return at_most


def _pause(pause_s: float) -> float:
    number = expect_number(pause_s, "pause_s")
    if not 0 < number <= 3600:
        raise ConfigError(f"pause_s={pause_s!r} must be more than 0 and at most 3600 seconds")
    return number
