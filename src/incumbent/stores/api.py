"""What a store must do, and what it says of itself.

For whoever adds a store
------------------------
A store keeps one small record per election and must be linearizable for it. It needs six verbs:
`read`, `take`, `renew`, `release`, `ask` (a request to step down) and `follow` (notify); sessions,
names, evidence and checkpoints are inherited from `StoreDefaults` by a store that has none. Run
`incumbent.testing.conformance` over yours: it is the definition of done. Register it under the
entry point group `incumbent.stores`, with the URL's scheme as its name and a callable that takes
the parsed URL (`stores.StoreURL`). Where an option makes it a store with other capabilities, its
module has a function `set_ups` that returns those by the option, so that they are listed as well.

Rules that the suite cannot fully check, so hold them in mind:

1. **Compare and swap.** `take` changes the record only if both versions of the snapshot that it is
   given are still current, in one atomic step. Never read inside `take` in order to swap what was
   just read.
2. **Say what you know.** `Refused` and `StoreUnavailable` promise that nothing happened. A request
   that was sent and not answered is `OutcomeUnknown`. When in doubt it is unknown.
3. **A renewal is confirmed by what a quorum wrote.** A heartbeat that some server answers from its
   memory confirms nothing: that server may be cut off from its peers. Say in `confirmed_by` which
   call it is.
4. **Name the term.** `renew` and `release` touch the record only while it carries that very nonce.
   A renewal that finds its own record changed by a third party (an annotation, say) adopts the new
   version and tries again; a release does too.
5. **The token grows** over release, expiry, restart of the same candidate and deletion of the
   record, and belongs to the acquiring write.
6. **Leave alone what you cannot understand**: report it as `Holding.FOREIGN`.
7. **No clock of another host is compared**, and none of yours is needed: times that the format
   demands are written for people.
8. `follow` may be late, may repeat, may skip states in between, and must end in the last one. If it
   cannot be sure that it missed nothing, it reads and reports that.
9. **Evidence of death is a kernel's or a kubelet's word** about everything that the holder
   started. A lost connection is none. No evidence is better than weak evidence.
10. **A checkpoint is compared and swapped as well**, beside the elections and without a trace in
   them, if the store keeps any (`Capabilities.checkpoints`). Its version belongs to one write: it
   is never used again, not even after a deletion, and to write an equal value is another write.
    Several that go together (`advance_all`) are several swaps all the same: none is written for
    another's sake, or left out because of another.

All methods are called on the keeper's event loop and are cancelled when their time is up. A store
whose client blocks brings a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import (
    Advance,
    Bar,
    Checkpoint,
    Claim,
    Held,
    Lease,
    Snapshot,
    StepDownRequest,
)
from incumbent.errors import ConfigError, MissingExtra, StoreError, StoreUnavailable, StoreUnusable

__all__ = [
    "ADVANCES_AT_ONCE",
    "MAX_CHECKPOINT_BYTES",
    "ON_ONE_HOST",
    "ON_ONE_SERVER",
    "ON_QUORUM",
    "ByElection",
    "Capabilities",
    "Fault",
    "Finding",
    "Grade",
    "Sink",
    "Store",
    "StoreDefaults",
    "StoreURL",
    "missing_extra",
    "unreached",
]

Sink = Callable[[Seen | Evidence], None]
"""Receives what `follow` has to say, on the keeper's event loop. It never blocks or raises."""


class Grade(Enum):
    """What a term of this store is worth, under the assumption in `Capabilities.assumes`."""

    EXCLUSIVE_IN_STORE = "exclusive within its own store"
    EXCLUSIVE_WITH_FENCING = "exclusive with a fencing resource"
    EFFICIENCY_ONLY = "efficiency only"


class Fault(Enum):
    """What may happen to a holder, to its network, or to the servers that keep the record."""

    HOLDER_KILLED = "holder killed"
    HOLDER_PAUSED = "holder paused"
    NETWORK_CUT = "network cut"
    CONNECTION_KILLED = "connection killed"
    SERVER_PAUSED = "server paused"
    SERVER_RESTARTED = "server restarted with its data"
    SERVER_ISOLATED = "own server cut off from its peers"
    SERVER_EMPTIED = "server restarted without its data"
    REPLICA_PROMOTED = "lagging replica promoted"


MAX_CHECKPOINT_BYTES = 65_536
"""What every store takes as the value of one checkpoint."""

ADVANCES_AT_ONCE = 8
"""How many advances are under way at a time in a store that carries them out one by one: as many as
its connections carry beside what else a process asks for."""

ON_ONE_HOST = frozenset({Fault.HOLDER_KILLED, Fault.HOLDER_PAUSED})
"""What a store without a server can meet."""
ON_ONE_SERVER = ON_ONE_HOST | {
    Fault.NETWORK_CUT,
    Fault.CONNECTION_KILLED,
    Fault.SERVER_PAUSED,
    Fault.SERVER_RESTARTED,
}
"""What leaves the promise intact where a write that was confirmed is kept."""
ON_QUORUM = ON_ONE_SERVER | {Fault.SERVER_ISOLATED}
"""The same, where a majority of several servers confirms it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store can do, as data: printed, documented, and each cell tested.

    A demand that a cell does not meet is refused before anything is started, and free text stands
    only where no program has to decide by it.

    Defaults are for stores in our own format. Whatever has a partner says every cell: what is right
    for the others of its scheme need not be right for it.

    Attributes:
        scheme: the URL scheme.
        sessions: many elections of one process are kept by renewing one lease.
        token: every term has a fencing token.
        judged_by: who decides that a holder is gone: "observers", "server", or the "kernel" of the
            host, whose lock ends with its holder.
        confirmed_by: the call that confirms a renewal.
        wakes_by: how a standby learns of a change.
        evidence: what proof of death shortens the wait, or "".
        absent_is_vacant: a record that never existed proves that nobody holds; one that the store
            knows to have existed is reported with a TTL, and waited out.
        whole_seconds: the format keeps the TTL in whole seconds.
        one_host: all candidates must run on one machine.
        one_process: all candidates must live in one process: for tests.
        unseen_ttls: for how long a renewal may stay unseen where nobody is notified, as a share of
            the TTL; 0 where standbys are.
        takeover_trips: round trips to the store that a failover needs; see `failover_bound_s`.
        bars: an election can be barred (`Store.bar`), and so be moved to or from another store.
        checkpoints: it keeps how far the work under an election has come (`Store.advance`).
        renews: a term can be kept beyond its TTL; without, it ends in time to stop the work.
        queue: candidates stand in a queue that the store keeps: a take that is not the first waits
            there, an empty queue is vacant, and nobody can be named as the successor.
        label_names: the name of an election has to be a DNS label: no dots, 63 characters at most.
        reads: who holds can be read; without, a candidate learns by trying that somebody does, and
            who only looks, or asks for something, is refused.
        partner: whose format this speaks, so that members of theirs may compete for the same lock;
            "" for our own. The promise is then about our candidates.
        partner_breaks: what a member of theirs can break, or "" where there are none.
        grade: what a term is worth.
        assumes: the assumption under which it is.
        survives: the faults that leave the promise intact: no two holders whose work overlaps, and
            tokens that grow. What is not among them cannot happen here, or is not promised.
    """

    scheme: str
    sessions: bool
    token: bool
    judged_by: str
    confirmed_by: str
    wakes_by: str
    evidence: str
    absent_is_vacant: bool
    whole_seconds: bool
    one_host: bool
    grade: Grade
    assumes: str
    survives: frozenset[Fault] = frozenset()
    one_process: bool = False
    unseen_ttls: float = 0.0
    takeover_trips: int = 2
    bars: bool = False
    checkpoints: bool = False
    renews: bool = True
    queue: bool = False
    label_names: bool = False
    reads: bool = True
    partner: str = ""
    partner_breaks: str = ""

    def failover_bound_s(self, ttl_s: float, trip_s: float, rho: float) -> float:
        """Return how long after a holder's last renewal was sent its successor has begun.

        At most, in true time, when somebody stands by, no notification was lost and the store
        answers each request within `trip_s`. A standby sees that renewal one round trip after it
        was sent, or when it looks next; waits for a TTL on a clock that may be slow by `rho`; and
        takes, which is another round trip. It has connected before, and opened its session.
        """
        return ttl_s * (self.unseen_ttls + 1 / (1 - rho)) + self.takeover_trips * trip_s


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `incumbent doctor`.

    Attributes:
        check: what was looked at.
        ok: whether it is fine; None if it could not be told.
        text: what was found.
        fix: what to change, if anything.
    """

    check: str
    ok: bool | None
    text: str
    fix: str = ""


def missing_extra(scheme: str, extra: str, error: ModuleNotFoundError) -> MissingExtra:
    """Return what is said where a store's client library is not installed.

    The module that was not found may lie deep in it; what is installed is a package.
    """
    module = (error.name or "").partition(".")[0]
    package = {"pymysql": "PyMySQL", "yaml": "PyYAML"}.get(module, module)
    return MissingExtra(
        f"{scheme}:// needs the package {package!r}, which is not installed: "
        f"pip install 'incumbent[{extra}]'"
    )


def unreached(error: StoreError) -> Finding:
    """Return what is found where a store did not answer as it should.

    What to look at is said only of one that could not be reached: any other error says it itself.
    """
    fix = "check the URL and the network" if isinstance(error, StoreUnavailable) else ""
    return Finding("reachable", False, str(error), fix)


class Store(Protocol):
    """A store of elections. See the head of this module."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    @property
    def url(self) -> str:
        """The store's URL without its secrets, for messages."""
        ...

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create what must exist. May be called again after `close`.

        Args:
            create: False for whoever only looks: then nothing is created, neither now nor by a
                later request, should the store vanish meanwhile.

        Raises:
            StoreAbsent: there is nothing yet, and `create` is False.
            StoreUnavailable: it cannot be reached.
            StoreUnusable: as it is set up it cannot keep the promise.
            PermissionDenied: a right is missing.
        """
        ...

    async def close(self) -> None:
        """Give back every resource. Nothing is released by this."""
        ...

    async def connect(self) -> None:
        """Have a connection ready for a take that is due in a moment. Sends no request.

        Raises:
            StoreError: there is none; the take itself will tell.
        """
        ...

    def candidate_name(self) -> str | None:
        """The name that a candidate has in this store's world (a Pod's name), or None."""
        ...

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now, by a linearizable read."""
        ...

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened.

        No work has begun under it. So a store that cannot read may undo it instead.

        Returns:
            The term if the record carries the claim's nonce, else the record as it is.
        """
        ...

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`.

        Raises:
            Refused: it is not; carries the record as it is.
            OutcomeUnknown: it may have happened.
            StoreUnavailable: it did not happen.
        """
        ...

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the lease, and return it at its new version.

        Raises:
            Refused: it is not ours any more.
            OutcomeUnknown, StoreUnavailable: try again.
        """
        ...

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term, and return the record as it is after that.

        A record that is not ours any more is returned as it is; that is no error.
        """
        ...

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down in the record, if it still carries `request.term`.

        Raises:
            Refused: the record carries another term; nothing was changed.
        """
        ...

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes until `unbar`; return it as it is then.

        It is `Holding.FOREIGN` to all candidates, those of older versions included, and does not
        end by itself. Its token is at least that of the last term.

        Args:
            over: either held, by a term under which nothing works and nothing will: the record is
                barred if it is still held under that very term. Or barred: then it is exactly this
                version that is replaced, and nothing that compares this version, however late it
                comes, has an effect any more.
            bar: what shall stand in it.

        Raises:
            Refused: the record is not `over` any more; carries it as it is.
            OutcomeUnknown: it may have happened, or yet happen.
            StoreUnavailable: it did not happen.
            StoreUnusable: elections of this store cannot be barred.
        """
        ...

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly the bar `over`; return it as it is then.

        Raises:
            Refused, OutcomeUnknown, StoreUnavailable, StoreUnusable: see `bar`.
        """
        ...

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Return a checkpoint as it is now, by a linearizable read.

        Raises:
            StoreUnusable: this store keeps none.
        """
        ...

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part, as they are now."""
        ...

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint if it is still exactly `over`, and return it as it is then.

        Whether `token` may replace `over.token` was decided by who calls
        (`runtime.checkpoints`): by comparing the version, nobody can have come in between.

        Args:
            over: as it was read or written last.
            value: at most `MAX_CHECKPOINT_BYTES`.
            token: of the term that writes.

        Raises:
            CheckpointMoved: it is not `over` any more; carries it as it is.
            OutcomeUnknown: it may have happened, or yet happen.
            StoreUnavailable: it did not happen.
            StoreUnusable: this store keeps none.
        """
        ...

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out advances of one election, each as `advance` does, and return what each came to.

        Each compares its own version, and is written or not whatever becomes of the others. Of
        several for one part, at most one is written.

        Returns:
            For each, in their order: the checkpoint as it was written, or the error that
            `advance` would have raised.

        Raises:
            OutcomeUnknown: each of them may have happened, or yet happen.
            StoreError: any other means that none of them happened.
        """
        ...

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change until `unfollow`."""
        ...

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more to this sink."""
        ...

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Open a lease under which many elections can be held (`Capabilities.sessions`)."""
        ...

    async def close_session(self, lease: Lease) -> None:
        """End a session. What is still held under it is free at once."""
        ...

    def inherited_fds(self, lease: Lease) -> Sequence[int]:
        """File descriptors that every process doing the work must inherit (evidence of death)."""
        ...

    async def elections(self) -> list[Snapshot]:
        """Return every election that this store knows."""
        ...

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here, for `doctor`."""
        ...


@runtime_checkable
class ByElection(Protocol):
    """A store in which rights can be limited to one election, which are seen only by its name."""

    async def examine_election(self, name: str) -> list[Finding]:
        """Look as `Store.examine` does, with the rights to this election."""
        ...


class StoreDefaults:
    """What a store need not write itself that has no names, sessions or evidence of its own.

    Inherit from it, or do not: what counts is `Store`.
    """

    capabilities: Capabilities

    async def connect(self) -> None:
        """Do nothing: a request is on its way as fast without."""

    def candidate_name(self) -> str | None:
        """Return None: candidates have no names of their own in this store's world."""
        return None

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Refuse: every election has a lease of its own."""
        raise StoreUnusable(_NO_SESSIONS.format(self.capabilities.scheme))

    async def close_session(self, lease: Lease) -> None:
        """Refuse: every election has a lease of its own."""
        raise StoreUnusable(_NO_SESSIONS.format(self.capabilities.scheme))

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Refuse: this store's format has no room for it."""
        raise StoreUnusable(_NO_BARS.format(self.capabilities.scheme))

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Refuse: there are no bars here."""
        raise StoreUnusable(_NO_BARS.format(self.capabilities.scheme))

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Refuse: nothing is kept here beside who holds."""
        raise StoreUnusable(_NO_CHECKPOINTS.format(self.capabilities.scheme))

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Refuse: nothing is kept here beside who holds."""
        raise StoreUnusable(_NO_CHECKPOINTS.format(self.capabilities.scheme))

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Refuse: nothing is kept here beside who holds."""
        raise StoreUnusable(_NO_CHECKPOINTS.format(self.capabilities.scheme))

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out each by itself, some at a time."""
        places = asyncio.Semaphore(ADVANCES_AT_ONCE)

        async def outcome(one: Advance) -> Checkpoint | StoreError:
            async with places:
                try:
                    return await self.advance(one.over, one.value, one.token)
                except StoreError as error:
                    return error

        return list(await asyncio.gather(*map(outcome, advances)))

    def inherited_fds(self, lease: Lease) -> Sequence[int]:
        """Return none: nothing that a process could inherit is evidence of its life."""
        return ()


_NO_CHECKPOINTS = "{}:// keeps no checkpoints, in this mode: name another store for them, state="
_NO_BARS = "{}:// cannot bar an election, in this mode: it cannot be moved to or from here"
_NO_SESSIONS = "{}:// has no sessions: every election has a lease of its own"


@dataclass(frozen=True, slots=True)
class StoreURL:
    """A store URL, taken apart.

    Attributes:
        scheme: names the store.
        host: may be empty. Several servers stand here as they were written, commas, ports and all:
            no store that knows only one can take them for it. See `servers`.
        port: None if not given, or given for each of several.
        path: as written, percent-decoded.
        username, password: None if not given.
        options: the query.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> StoreURL:
        """Take `url` apart.

        Raises:
            ConfigError: it is not a URL.
        """
        try:
            parts = urlsplit(url)
            written = parts.netloc.rpartition("@")[2]
            several = "," in written
            port = None if several else parts.port
            options = parse_qsl(parts.query, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise ConfigError(f"store URL {redact(url)!r} cannot be read: {error}") from None
        if not parts.scheme or "://" not in url:
            raise ConfigError(
                f"store URL {redact(url)!r} has no scheme: write, for example, "
                "sqlite:///var/lib/app/incumbent.db or kubernetes://"
            )
        if "#" in url:
            raise ConfigError(
                f"store URL {redact(url)!r} has a fragment, {'#' + parts.fragment!r}: it would be "
                "lost; write %23 for a # that is part of a name"
            )
        names = [name for name, _ in options]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            # Whichever counted, somebody would have meant the other one.
            raise ConfigError(
                f"store URL {redact(url)!r} has the option {twice[0]!r} more than once: write it "
                "once"
            )
        return cls(
            scheme=parts.scheme.lower(),
            host=written.lower() if several else parts.hostname or "",
            port=port,
            path=unquote(parts.path),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            options=dict(options),
        )

    def servers(self, default_port: int) -> tuple[tuple[str, int], ...]:
        """Return host and port of each server, for a store that may be told several.

        Raises:
            ConfigError: one of them has no name, or a port that is none.
        """
        if "," not in self.host:
            return ((self.host, self.port or default_port),) if self.host else ()
        found = []
        for written in self.host.split(","):
            try:
                parts = urlsplit(f"//{written}")
                found.append((parts.hostname or "", parts.port or default_port))
            except ValueError as error:
                raise ConfigError(f"{self.scheme}://: {written!r} is no server: {error}") from None
        if not all(host for host, _ in found):
            raise ConfigError(f"{self.scheme}://: a server in {self.host!r} has no name")
        return tuple(found)

    def take_options(self, *known: str) -> dict[str, str]:
        """Return the options, all of which must be among `known`.

        Raises:
            ConfigError: for an unknown option, with the known ones.
        """
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            have = ", ".join(known) or "none"
            raise ConfigError(
                f"{self.scheme}:// does not know the option {unknown[0]!r}; it knows: {have}"
            )
        return dict(self.options)


def redact(url: str) -> str:
    """Return `url` without a password, for messages; a user without one may be a token."""
    head, at, tail = url.rpartition("@")
    scheme, sep, credentials = head.partition("://")
    if not at or not sep:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}:***@{tail}" if colon else f"{scheme}://***@{tail}"
