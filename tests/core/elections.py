"""An elector with a store that a test plays by hand, and the dialogue between them as text."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from incumbent.core import events as ev
from incumbent.core.elector import Elector, State
from incumbent.core.records import Held, Holding, Lease, Snapshot, StepDownRequest, absent
from incumbent.core.timing import Timing

__all__ = ["NAME", "TIMING", "Dialogue", "foreign", "gone", "held", "request", "vacant"]

NAME = "a"
TIMING = Timing.plan(10.0, grace_s=2.0, kill_s=0.5, margin_s=0.1, rho=0.1)


def held(
    serial: int,
    holder: str = "q_2",
    term: str = "",
    *,
    beat: int = 0,
    ttl_s: float = 10.0,
    token: int | None = None,
    lease_key: str = "",
    asked: StepDownRequest | None = None,
) -> Snapshot:
    """Return a record that is held."""
    return Snapshot(
        NAME,
        Holding.HELD,
        version=serial,
        serial=serial,
        holder=holder,
        term=term or f"{holder}/x.1",
        token=serial if token is None else token,
        ttl_s=ttl_s,
        lease_key=lease_key or f"{holder}#1",
        lease_version=beat,
        request=asked,
    )


def vacant(serial: int, successor: str = "", *, token: int | None = None) -> Snapshot:
    """Return a record that nobody holds."""
    return Snapshot(
        NAME,
        Holding.VACANT,
        version=serial,
        serial=serial,
        token=token,
        ttl_s=10.0,
        successor=successor,
    )


def foreign(serial: int) -> Snapshot:
    """Return a record that nobody understands."""
    return Snapshot(NAME, Holding.FOREIGN, version=serial, serial=serial, why="it says 'moo'")


def gone(serial: int = 0) -> Snapshot:
    """Return a record that is not there."""
    return absent(NAME, serial)


def request(term: str, to: str = "") -> StepDownRequest:
    """Return a request to step down."""
    return StepDownRequest(term, to)


class Dialogue:
    """What is said to one elector, and what it answers, written down line by line."""

    def __init__(
        self, identity: str = "p_1", *, absent_is_vacant: bool = False, timing: Timing = TIMING
    ) -> None:
        self.elector = Elector(NAME, identity, "i", timing, absent_is_vacant=absent_is_vacant)
        self.timing = timing
        self.now = 0.0
        self.lines: list[str] = []

    @property
    def state(self) -> State:
        return self.elector.state

    def say(self, event: ev.Event, *, at: float | None = None) -> list[ev.Effect]:
        """Give the elector one event, at a time that is not before the last."""
        if at is not None:
            assert at >= self.now
            self.now = at
        before = self.elector.state
        effects = self.elector.handle(event, self.now)
        self.lines.append(f"{self.now:8.3f}  {before.value} <- {describe(event)}")
        self.lines += [f"              -> {describe(effect)}" for effect in effects]
        if self.elector.state is not before:
            self.lines.append(f"              {self.elector.state.value}")
        return effects

    def tick(self) -> list[ev.Effect]:
        """Let the time come that the elector asked for."""
        return self.say(ev.Tick(), at=max(self.now, self.elector.wake_at))

    def seen(self, snapshot: Snapshot, *, at: float | None = None) -> list[ev.Effect]:
        """Have the watch report a record."""
        return self.say(ev.Seen(snapshot), at=at)

    def heading(self, text: str) -> None:
        """Add a line for readers."""
        self.lines += ["", f"# {text}"]

    def taken(self, serial: int, *, token: int | None = None) -> Held:
        """Return the store's confirmation of the take that is in flight."""
        attempt = self.elector.attempts
        record = held(serial, "p_1", f"p_1/i.{attempt}", token=token, lease_key="p_1#1")
        lease = Lease("p_1#1", 0, self.timing.ttl_s, "p_1")
        return Held(NAME, record.term, record.token, lease, record)

    def win(self, serial: int = 1, *, token: int | None = None) -> Held:
        """Confirm the take that is in flight."""
        confirmed = self.taken(serial, token=token)
        until = self.now + self.timing.validity_s
        self.say(ev.TakeDone(self.elector.attempts, confirmed, until))
        return confirmed

    def lead(self) -> Held:
        """Go all the way to a first term."""
        self.say(ev.Start())
        self.seen(vacant(1))
        return self.win(2)


def describe(value: object) -> str:
    """Return one line for an event or an effect."""
    if isinstance(value, Snapshot):
        return _snapshot(value)
    if isinstance(value, Held):
        return f"{value.term} with token {value.token}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if not is_dataclass(value):
        return repr(value)
    parts: list[tuple[str, Any]] = [
        (field.name, getattr(value, field.name)) for field in fields(value)
    ]
    said = [f"{name} {describe(part)}" for name, part in parts if part not in ("", None, False)]
    return " ".join([type(value).__name__, ", ".join(said)]).strip()


def _snapshot(snapshot: Snapshot) -> str:
    text = snapshot.holding.value
    if snapshot.holding is Holding.HELD:
        text += f" by {snapshot.term}"
    if snapshot.successor:
        text += f" for {snapshot.successor}"
    if snapshot.request is not None:
        text += (
            f", {snapshot.request.term} asked to hand over to {snapshot.request.to or 'anybody'}"
        )
    beat = "" if snapshot.lease_version is None else f".{snapshot.lease_version}"
    return f"[{text} @{snapshot.serial}{beat}]"
