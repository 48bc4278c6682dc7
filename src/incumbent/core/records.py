"""What a store says of one election at one version, and the names that may stand in it.

A *record* exists once per election. Its **version** is whatever the store compares when it swaps
(resourceVersion, row sequence, revision); the core only tests versions for equality. Its
**serial** is an integer that never falls while the store keeps its memory, so that a late answer
of a watch is recognised as old, and a store that went back in time is recognised as another world.

The **term** is the nonce of the acquiring write: unique, made of the candidate's identity and the
number of the attempt. Ownership is the term, never the name: a candidate that restarts under the
same name must not be mistaken for its predecessor, and a write whose outcome is unknown is found
again by its nonce.

The **lease** is what is renewed. In a store with sessions many records name one lease and only its
version moves; elsewhere the lease is the record itself. An observer waits one TTL after the last
change of *both* versions.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum

from incumbent.errors import InvalidName

__all__ = [
    "FORMAT",
    "VACANT",
    "Advance",
    "Bar",
    "Checkpoint",
    "Claim",
    "Held",
    "Holding",
    "Lease",
    "Snapshot",
    "StepDownRequest",
    "absent",
    "barred",
    "check_identity",
    "check_name",
    "same_candidate",
]

FORMAT = 1
"""The version of the record's format. A record with another one is foreign: it is left alone."""

_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,198}[a-z0-9])?")
_IDENTITY = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,250}[A-Za-z0-9])?")


class Holding(Enum):
    """Who has the election, according to one snapshot."""

    ABSENT = "absent"
    """There is no record. Somebody may have deleted it under a live holder."""
    VACANT = "vacant"
    """There is a record and it says that nobody holds."""
    HELD = "held"
    """There is a record and it names a holder."""
    FOREIGN = "foreign"
    """There is something that we leave alone: we cannot understand it, or it is a `Bar`."""


ABSENT, VACANT = Holding.ABSENT, Holding.VACANT


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands in a record that nobody may take, until it is lifted by whoever knows of it.

    Attributes:
        text: why, for people: one line of at most 400 printable ASCII characters.
        nonce: unique for the write that left it, so that one of unknown outcome is found again.
    """

    text: str
    nonce: str

    def __post_init__(self) -> None:
        """Refuse what some store could not carry.

        Raises:
            ValueError: it is too long, or no line of ASCII.
        """
        for value, longest in ((self.text, 400), (self.nonce, 100)):
            if not (0 < len(value) <= longest and value.isascii() and value.isprintable()):
                raise ValueError(f"{value!r} is no line of 1 to {longest} ASCII characters")

    @classmethod
    def of(cls, text: object, nonce: object) -> Bar | None:
        """Return the bar that was read, or None if what was read makes none."""
        try:
            return cls(text, nonce) if isinstance(text, str) and isinstance(nonce, str) else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class StepDownRequest:
    """Somebody asks the holder of one term to hand over.

    Attributes:
        term: the term that is asked to end; a request never reaches another one.
        to: the candidate that shall follow, or "" for anybody.
    """

    term: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One election at one version, as a store reported it.

    Attributes:
        name: the election.
        holding: who has it.
        version: what the store compares; None if there is no record.
        serial: grows with every change of the record (see the module's head).
        holder: identity of the holder, or of the last one; "" if there never was one.
        term: nonce of the acquiring write; "" if another program wrote the record.
        token: fencing token of the term, where the record tells it; else None.
        ttl_s: the record's own time to live in seconds: what an observer waits. Of an absence: for
            how long whoever deleted the record may have a holder behind it, if the store can tell.
        lease_key: identifies the lease that is renewed to hold this; "" if unknown.
        lease_version: what changes when the lease is renewed.
        successor: the candidate for which a vacancy is meant, or "".
        request: a request to step down.
        why: for a foreign record, what could not be understood, or why it is barred.
        bar: the bar, if that is what makes the record foreign. Then `token` is no term's: it is no
            greater than that of any term to come, and no smaller than that of any before.
    """

    name: str
    holding: Holding
    version: Hashable
    serial: int
    holder: str = ""
    term: str = ""
    token: int | None = None
    ttl_s: float = 0.0
    lease_key: str = ""
    lease_version: Hashable = None
    successor: str = ""
    request: StepDownRequest | None = None
    why: str = ""
    bar: Bar | None = None

    @property
    def state(self) -> str:
        """One word for people and programs."""
        return "barred" if self.bar is not None else self.holding.value

    @property
    def watched(self) -> tuple[Hashable, Hashable]:
        """The pair of versions that must stand still for a whole TTL."""
        return (self.version, self.lease_version)

    def describe(self) -> str:
        """Return one line for people."""
        match self.holding:
            case Holding.ABSENT:
                return f"{self.name!r} has no record"
            case Holding.VACANT:
                return f"{self.name!r} is vacant"
            case Holding.FOREIGN if self.bar is not None:
                return f"{self.name!r} is barred: {self.why}"
            case Holding.FOREIGN:
                return f"{self.name!r} has a record that is not ours: {self.why}"
            case Holding.HELD:
                who = repr(self.holder) if self.holder else "somebody whom the store does not name"
                return f"{self.name!r} is held by {who}"


def barred(name: str, bar: Bar, version: Hashable, serial: int, token: int | None) -> Snapshot:
    """Return the snapshot of an election that is barred."""
    return Snapshot(
        name=name,
        holding=Holding.FOREIGN,
        version=version,
        serial=serial,
        token=token,
        why=bar.text,
        bar=bar,
    )


def absent(name: str, serial: int = 0, ttl_s: float = 0.0) -> Snapshot:
    """Return the snapshot of an election that has no record."""
    return Snapshot(name=name, holding=Holding.ABSENT, version=None, serial=serial, ttl_s=ttl_s)


@dataclass(frozen=True, slots=True)
class Lease:
    """What is renewed: a session, or the record of one election.

    Attributes:
        key: identifies the lease within its store; for a record, the term.
        version: what the store compares at the next renewal.
        ttl_s: time to live in seconds.
        owner: identity of the candidate, or of the process that keeps the session.
        name: the election whose record this is; "" for a session.
    """

    key: str
    version: Hashable
    ttl_s: float
    owner: str
    name: str = ""

    def at(self, version: Hashable) -> Lease:
        """Return this lease at another version."""
        return replace(self, version=version)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a candidate writes when it takes an election.

    Attributes:
        identity: unique for this process incarnation.
        term: nonce of this very attempt.
        ttl_s: what others shall wait.
        session: the lease under which the term is held, in a store with sessions.
    """

    identity: str
    term: str
    ttl_s: float
    session: Lease | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A take that the store confirmed.

    Attributes:
        name: the election.
        term: nonce of the acquiring write.
        token: fencing token, greater than that of every earlier term; None if the store has none.
        lease: what must be renewed to stay.
        snapshot: the record as written.
    """

    name: str
    term: str
    token: int | None
    lease: Lease
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far some work has come, as a store keeps it beside an election.

    Attributes:
        name: the election.
        part: which of the works under that election; a name by the same rules.
        value: what the work has noted; b"" if nothing was ever written.
        token: of the term that wrote it; 0 if nothing was ever written.
        version: identifies that write, and is never used again; None if nothing was ever written.
    """

    name: str
    part: str
    value: bytes = b""
    token: int = 0
    version: Hashable = None


@dataclass(frozen=True, slots=True)
class Advance:
    """One write of a checkpoint; see `stores.api.Store.advance`.

    Attributes:
        over: as it was read or written last.
        value: what shall stand there.
        token: of the term that writes.
    """

    over: Checkpoint
    value: bytes
    token: int


def check_name(name: str) -> str:
    """Return `name` if every store can carry it.

    Raises:
        InvalidName: otherwise, with what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"election name {name!r}: use 1 to 200 of a-z, 0-9, '-' and '.', with a letter or "
            "digit at both ends"
        )
    return name


def check_identity(identity: str) -> str:
    """Return `identity` if every store can carry it.

    Raises:
        InvalidName: otherwise, with what is allowed.
    """
    if not _IDENTITY.fullmatch(identity):
        raise InvalidName(
            f"identity {identity!r}: use 1 to 252 of A-Z, a-z, 0-9, '-', '.' and '_', with a "
            "letter or digit at both ends"
        )
    return identity


def same_candidate(wanted: str, identity: str) -> bool:
    """Tell whether `wanted` means the candidate `identity`: all of it, or the name it begins with.

    An identity is `<host or Pod name>_<...>_<random>`; people know the first part.
    """
    return wanted == identity or identity.startswith(wanted + "_")
