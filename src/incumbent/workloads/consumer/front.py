"""What the consumers of both faces have in common: their arguments, and the handler's kind."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

from incumbent.errors import ConfigError
from incumbent.runtime.face import is_awaited, name_of, refuse_async, refuse_generator
from incumbent.workloads.consumer.machine import Machine
from incumbent.workloads.sources.api import Source

__all__ = ["Front"]

F = TypeVar("F", bound=Callable[..., Any])


class Front:
    """The arguments of a consumer, and its handler."""

    _waits = False
    _machine: Machine

    def _prepare(
        self,
        source: str | Callable[[], Source],
        *,
        effects: str | Callable[[], Any] | None,
        retries: int,
        backoff_s: float,
        dead_letter: str | None,
        errors: str,
        batch: int,
        prefetch: int,
        remember: int,
        deaths: int | None,
    ) -> Machine:
        if errors not in ("bury", "raise"):
            raise ConfigError(f"errors={errors!r}: use 'bury' or 'raise'")
        self._machine = Machine(
            source,
            self._waits,
            effects=effects,
            retries=retries,
            backoff_s=backoff_s,
            dead_letter=dead_letter,
            raises=errors == "raise",
            batch=batch,
            prefetch=prefetch,
            remember=remember,
            deaths=deaths,
        )
        return self._machine

    def handler(self, func: F) -> F:
        """Have `func` handle the items: `func(item, db)`, or `func(item)` without `effects=`.

        Raises:
            TypeError: it is of the wrong kind for this face, or takes other arguments.
        """
        if is_awaited(func) != self._waits:
            wanted, face = (
                ("a coroutine function", "aio") if self._waits else ("a function", "sync")
            )
            raise TypeError(f"{name_of(func)}: a consumer of incumbent.{face} needs {wanted}")
        if self._waits:
            refuse_generator(func, "a consumer")
        else:
            refuse_async(func, "a consumer for threads", "incumbent.aio.Consumer")
        given = ("item",) if self._machine.effects is None else ("item", "db")
        try:
            signature(func).bind(*given)
        except TypeError:
            with_or_without = "without" if self._machine.effects is None else "with"
            raise TypeError(
                f"{name_of(func)} has to take ({', '.join(given)}): the consumer was made "
                f"{with_or_without} effects="
            ) from None
        except ValueError:
            pass  # A builtin, which does not tell.
        self._machine.handler = func
        return func
