"""Everything that incumbent raises, in one tree.

Errors of foreign libraries are mapped to these at one boundary, the store module that uses the
library; above it nobody needs to know which client spoke to which server.

The three store outcomes below are the vocabulary of the whole protocol, so read them first:

- `Refused`: the store answered, and nothing was changed;
- `StoreUnavailable`: the request certainly had no effect (it never left, or was turned away);
- `OutcomeUnknown`: it may have had an effect, now or later. Neither success nor failure.

A store that cannot tell the last two apart must raise `OutcomeUnknown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from incumbent.core.records import Checkpoint, Snapshot

__all__ = [
    "CheckpointMoved",
    "ConfigError",
    "DuplicateIdentity",
    "ForeignRecord",
    "ImpossibleTiming",
    "IncumbentError",
    "InvalidName",
    "LeadershipLost",
    "MissingExtra",
    "NotElected",
    "OutcomeUnknown",
    "PermissionDenied",
    "Refused",
    "SessionGone",
    "SourceUnavailable",
    "StaleToken",
    "StoreAbsent",
    "StoreError",
    "StoreFull",
    "StoreRequired",
    "StoreUnavailable",
    "StoreUnusable",
    "UnknownScheme",
    "UnsupportedPlatform",
    "Withdrawn",
    "WorkStuck",
    "causes",
]


class IncumbentError(Exception):
    """The base of every error raised by incumbent."""


class ConfigError(IncumbentError, ValueError):
    """Something that the caller wrote cannot work; the message names what to change and how."""


class InvalidName(ConfigError):
    """An election name or candidate identity has characters or a length that stores refuse."""


class ImpossibleTiming(ConfigError):
    """The arithmetic of TTL, clock drift, grace and margin does not work out."""


class UnknownScheme(ConfigError):
    """No installed store answers to the scheme of this store URL."""


class MissingExtra(ConfigError):
    """The store or command exists, but its optional dependency is not installed."""


class StoreRequired(ConfigError):
    """No store was named, and a default would make every replica a leader of its own."""


class UnsupportedPlatform(IncumbentError):
    """The platform lacks what the promise needs; the message says what, and the way out."""


class StoreError(IncumbentError):
    """Something went wrong between us and the store."""


class StoreUnavailable(StoreError):
    """The request certainly had no effect."""


class StoreAbsent(StoreUnavailable):
    """There is no store there yet, and whoever opened it only looks, so none was created."""


class OutcomeUnknown(StoreError):
    """The request may have had an effect, or may yet have one. It must be read back."""


class Refused(StoreError):
    """The store answered that the record is not at the expected version; nothing was changed.

    Attributes:
        snapshot: what the record says instead, as read after the refusal.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(f"refused: {snapshot.describe()}")
        self.snapshot = snapshot


class CheckpointMoved(StoreError):
    """The checkpoint is not at the expected version; nothing was changed.

    Attributes:
        checkpoint: what it is instead, as read after the refusal.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(
            f"the checkpoint {checkpoint.part!r} of {checkpoint.name!r} was written with token "
            f"{checkpoint.token} meanwhile"
        )
        self.checkpoint = checkpoint


class SessionGone(StoreError):
    """The lease under which the take was asked for is over. Nothing was changed."""


class SourceUnavailable(IncumbentError):
    """A broker or database that work is done with is not there now; a new connection may mend it.

    It never reaches the user: whoever drives the work closes, waits, and begins anew.
    """


class PermissionDenied(StoreError):
    """The store knows us and forbids this; the message names the missing right."""


class StoreUnusable(StoreError):
    """The store cannot keep the promise as it is set up (network file system, wrong version)."""


class StoreFull(StoreUnusable):
    """The store has no room for the write. Nothing was changed."""


class ForeignRecord(StoreError):
    """There is a record that we cannot understand. It is left alone."""


class DuplicateIdentity(IncumbentError):
    """Another live candidate has our identity. Identities are unique per process incarnation."""


class NotElected(IncumbentError, TimeoutError):
    """The caller would not wait any longer and was not elected."""


class Withdrawn(IncumbentError):
    """This candidate was withdrawn while it led, or waited to: nothing of it is left."""


class LeadershipLost(IncumbentError):
    """The term is over, or can no longer be trusted. Stop what you are doing."""


class StaleToken(IncumbentError):
    """A protected resource has seen a newer fencing token; nothing was changed."""


class WorkStuck(IncumbentError):
    """The work was told to stop and did not within its grace. Its lease is not released."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then what it came from, and so on: for the boundaries that map errors.

    Each comes once: those of some libraries refer to one another in a circle.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
