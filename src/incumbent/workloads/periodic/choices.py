"""What a user chooses for a periodic task, besides when it is due; bad choices are refused here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, TypedDict

from incumbent.errors import ConfigError

if TYPE_CHECKING:
    from incumbent.runtime.candidacy import Observer
    from incumbent.runtime.health import Health
    from incumbent.stores.api import Store

__all__ = ["Choices", "Chosen", "Settings", "refuse_idle", "split"]

_WORDS = {
    "missed": ("skip", "latest", "all"),
    "on_overrun": ("skip", "latest", "all"),
    "on_interrupted": ("rerun", "skip"),
    "errors": ("log", "raise"),
}
_COUNTS = {"missed_limit": (1, 10_000), "reruns": (0, 1000), "retries": (0, 1000)}
_COUNTS["history"] = (0, 250)
_LONGEST_BACKOFF_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One task's choices.

    Attributes:
        missed: what becomes of ticks at which nobody led: "all" are run, one after the other, or
            the "latest" alone, or that one only if it is not late ("skip").
        missed_limit: how many ticks are made up for at most; older ones are dropped.
        late_s: how late a tick may begin under "skip". It has to be more than the clocks of the
            hosts differ by: to one that is ahead, the present is late.
        on_overrun: what becomes of ticks that come while the task still runs; if nothing is said,
            "all" where `missed` is, since a run that makes up for a tick is late for the next one,
            and else "skip".
        on_interrupted: what becomes of a tick whose run was cut short by the end of its term.
        reruns: how often one tick is begun again after interruptions, so that a task which kills
            its process does not do so for ever.
        jitter_s: each tick begins up to this much later; how much follows from the tick alone.
        timeout_s: after which a run is asked to end, or made to; None for never.
        retries: how often a run that raised is tried again.
        backoff_s: the pause before the first retry; it doubles, up to ten minutes.
        history: how many runs are remembered.
        errors: "raise" to end the whole work with what a tick raised at last; else it is logged.
    """

    missed: str = "latest"
    missed_limit: int = 100
    late_s: float = 10.0
    on_overrun: str = ""
    on_interrupted: str = "rerun"
    reruns: int = 3
    jitter_s: float = 0.0
    timeout_s: float | None = None
    retries: int = 0
    backoff_s: float = 1.0
    history: int = 100
    errors: str = "log"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: some value is none of those that there are.
        """
        if not self.on_overrun:
            object.__setattr__(self, "on_overrun", "all" if self.missed == "all" else "skip")
        for name, words in _WORDS.items():
            value = getattr(self, name)
            if value not in words:
                raise ConfigError(f"{name}={value!r} must be {' or '.join(map(repr, words))}")
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(f"{name}={value!r} must be a number from {least} to {most}")
        for name in ("late_s", "jitter_s", "backoff_s"):
            self._check_seconds(name, getattr(self, name))
        if self.timeout_s is not None:
            self._check_seconds("timeout_s", self.timeout_s)
            if not self.timeout_s:
                raise ConfigError("timeout_s=0 leaves no time at all: leave it out for no limit")

    def _check_seconds(self, name: str, value: object) -> None:
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        if not (fine and 0 <= value < 1e9):  # type: ignore[operator]  # it was looked at just now
            raise ConfigError(f"{name}={value!r} must be a number of seconds from 0 on")

    def jitter_ms(self, job: str, tick_ms: int) -> int:
        """Return how much later than `tick_ms` it begins: the same on every host."""
        if not self.jitter_s:
            return 0
        digest = blake2b(f"{job} {tick_ms}".encode(), digest_size=8).digest()
        return int(int.from_bytes(digest, "big") / 2**64 * self.jitter_s * 1000)

    def pause_s(self, failures: int) -> float:
        """Return for how long to wait after so many failures."""
        return float(min(self.backoff_s * 2 ** min(failures - 1, 40), _LONGEST_BACKOFF_S))


class Chosen(TypedDict, total=False):
    """The choices as arguments: see `Choices`."""

    missed: Literal["latest", "skip", "all"]
    missed_limit: int
    late_s: float
    on_overrun: Literal["skip", "latest", "all"]
    on_interrupted: Literal["rerun", "skip"]
    reruns: int
    jitter_s: float
    timeout_s: float | None
    retries: int
    backoff_s: float
    history: int
    errors: Literal["log", "raise"]


class Settings(Chosen, total=False):
    """What a task takes that has an election of its own: its choices, and what `Work` takes."""

    store: str | Store | None
    state: str | Store | None
    ttl_s: float | None
    grace_s: float | None
    rho: float | None
    as_: str | None
    require: str
    observer: Observer | None
    isolate: bool
    deadman: bool
    health: Health | None


def refuse_idle(given: Mapping[str, object]) -> None:
    """Refuse what was said, and has no effect beside the rest that was said.

    Raises:
        ConfigError: there is such a value.
    """
    if "late_s" in given and given.get("missed") != "skip":
        raise ConfigError("late_s is for missed='skip' alone: say that too, or leave late_s out")
    if "missed_limit" in given and "all" not in (given.get("missed"), given.get("on_overrun")):
        raise ConfigError("missed_limit is for missed='all': say that too, or leave it out")


def split(settings: Settings) -> tuple[Choices, dict[str, object]]:
    """Return the choices among the settings, and the others.

    Raises:
        ConfigError: some value is none of those that there are.
    """
    values = dict(settings)
    chosen = {name: values.pop(name) for name in Chosen.__annotations__ if name in values}
    refuse_idle(chosen)
    return Choices(**chosen), values  # type: ignore[arg-type]  # each is checked by Choices
