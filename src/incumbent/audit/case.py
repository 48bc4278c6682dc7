"""What a rule is given: the set of objects, what each workload is meant to be, and when it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from incumbent.audit.electors import Elector, electors
from incumbent.audit.intent import Intent, intent_of
from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import Workload
from incumbent.manifests.modes import Mode

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """The case to judge.

    Attributes:
        inventory: the objects.
        declared: what the caller says a workload is meant to be.
        read_at: when the objects were read from a running cluster; None for files.
        unseen: the kinds that could not be read from it.
    """

    inventory: Inventory
    declared: Mapping[str, Mode] = field(default_factory=dict)
    read_at: datetime | None = None
    unseen: frozenset[str] = frozenset()

    @cached_property
    def _intents(self) -> dict[int, Intent]:
        found = self.inventory
        return {id(each): intent_of(found, each, self.declared) for each in found.workloads}

    def intent(self, workload: Workload) -> Intent:
        """Return what a workload of the set is meant to be."""
        return self._intents[id(workload)]

    @cached_property
    def singletons(self) -> list[tuple[Workload, Intent]]:
        """The long-running workloads that are meant to be one, in whatever mode."""
        pairs = ((each, self.intent(each)) for each in self.inventory.long_running)
        return [(workload, intent) for workload, intent in pairs if intent.mode is not None]

    @cached_property
    def alone(self) -> list[tuple[Workload, Intent]]:
        """Those of which there must be one replica."""
        return [(workload, intent) for workload, intent in self.singletons if intent.alone]

    @cached_property
    def elected(self) -> list[tuple[Workload, Intent]]:
        """Those whose replicas choose one of them."""
        return [(workload, intent) for workload, intent in self.singletons if intent.elected]

    def electors(self) -> Iterator[tuple[Workload, Elector]]:
        """Yield each container that takes part in an election, with its workload."""
        for workload in self.inventory.workloads:
            for elector in electors(workload):
                yield workload, elector
