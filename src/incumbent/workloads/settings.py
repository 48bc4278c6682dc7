"""The settings that all kinds of work have in common, on top of those of their election."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from typing import Any

from incumbent.errors import ConfigError, StoreRequired
from incumbent.runtime.checkpoints import Archive
from incumbent.runtime.face import Election
from incumbent.runtime.settings import Settings
from incumbent.stores.api import Store
from incumbent.workloads.env import Workload

__all__ = ["Plan", "no_such_option", "refuse_unknown"]


@dataclass(frozen=True)
class Plan:
    """One workload, the election under which it runs, and where it keeps how far it has come.

    Attributes:
        name: of the election.
        workload: what runs.
        election: the arguments of `Election`, but for the name.
        state: the store of the checkpoints; None for `INCUMBENT_STATE`, or the election's own.
    """

    name: str
    workload: Workload
    election: Mapping[str, Any] = field(default_factory=dict)
    state: str | Store | None = None

    def check(self, *, begins: bool = False) -> None:
        """Refuse what cannot work, before anything is touched.

        Args:
            begins: whether it is about to run. Before that, a store need not be named yet.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        try:
            settings = Settings.resolve(self.name, **self._settings(self.election.get("store")))
        except StoreRequired:
            if begins:
                raise
            return
        if self.workload.keeps:
            if not settings.store.capabilities.token:
                raise ConfigError(
                    f"{settings.store.url} gives no fencing token, and this work needs one to keep "
                    "how far it has come: choose another store"
                )
            self.archive()

    def archive(self) -> Archive | None:
        """Return where the checkpoints are kept, not opened yet; None if the work keeps none.

        Raises:
            ConfigError: that store keeps no checkpoints.
        """
        if not self.workload.keeps:
            return None
        state = self.state or os.environ.get("INCUMBENT_STATE") or self.election.get("store")
        return Archive(Settings.resolve(self.name, **self._settings(state)))

    @property
    def grace_s(self) -> float:
        """How long the work may take to stop.

        Raises:
            ConfigError: some setting cannot work.
        """
        store = self.election.get("store")
        return Settings.resolve(self.name, **self._settings(store)).timing.grace_s

    def _settings(self, store: str | Store | None) -> dict[str, Any]:
        known = ("ttl_s", "grace_s", "rho", "as_")
        return {"store": store} | {k: v for k, v in self.election.items() if k in known}


def refuse_unknown(kind: type, where: str, given: Collection[str], more: Collection[str]) -> None:
    """Refuse options that neither the work nor its election has.

    Args:
        kind: the class of the work.
        where: what the user has called.
        given: what is left for the election.
        more: options that `kind` takes beyond those that it names.

    Raises:
        TypeError: there is no such option; the message says which one was meant, perhaps.
    """
    elections = set(signature(Election).parameters) - {"name"}
    for name in given:
        if name in elections:
            continue
        known = {*elections, *more}
        for each in kind.__mro__:
            if "__init__" in vars(each):
                known |= set(signature(vars(each)["__init__"]).parameters)
        raise no_such_option(where, name, known - {"self"})


def no_such_option(where: str, name: str, known: Collection[str]) -> TypeError:
    """Return the error that says so, and which one was meant, perhaps."""
    near = get_close_matches(name, sorted(known), 1)
    hint = f": did you mean {near[0]}=?" if near else ""
    return TypeError(f"{where} has no option {name}={hint}")
