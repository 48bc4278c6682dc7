"""What a history needs of the store that it runs against: a server, and hands that reach in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from incumbent.core.records import StepDownRequest
from incumbent.errors import Refused
from incumbent.stores.api import Store
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.twin import Server, TwinStore, finish

__all__ = ["Bench", "BenchDefaults", "MemoryBench"]


class Bench(Protocol):
    """One server, its clients, and what people do to it."""

    async def store(self, process: Process) -> Store:
        """Return the open store as a new process has it.

        Raises:
            StoreError: it cannot be opened.
        """
        ...

    def forget(self, process: Process) -> None:
        """Hear that a process is gone."""
        ...

    def prove_dead(self, process: Process) -> None:
        """Give proof to everybody that a process which is gone does no work any more."""
        ...

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down in the record, as another program does."""
        ...

    def delete(self, name: str) -> None:
        """Delete a record by hand."""
        ...

    def scribble(self, name: str) -> None:
        """Overwrite a record with something foreign."""
        ...

    def wipe(self) -> None:
        """Remove what is foreign."""
        ...

    def back_up(self) -> None:
        """Keep a copy of everything."""
        ...

    def restore(self) -> bool:
        """Go back to the copy; False if there is none."""
        ...

    def hindered(self, processes: Sequence[Process], since: float) -> bool:
        """Tell whether a fault that ended at `since` goes on to have its effect on any of these."""
        ...

    def up_to_date(self, processes: Sequence[Process]) -> bool:
        """Tell whether these processes have in view what is there."""
        ...

    def end(self) -> None:
        """Give back what this machine lent."""
        ...


class BenchDefaults:
    """What most benches need not write themselves."""

    def hindered(self, processes: Sequence[Process], since: float) -> bool:
        """Ask no more of anybody."""
        return True

    def up_to_date(self, processes: Sequence[Process]) -> bool:
        """Trust what the store was told."""
        return True

    def end(self) -> None:
        """Do nothing."""


class MemoryBench(BenchDefaults):
    """The reference store's."""

    def __init__(self, judge: Judge, *, absent_is_vacant: bool) -> None:
        self.server = Server(judge, absent_is_vacant=absent_is_vacant)
        self._judge = judge
        self._stores: dict[str, TwinStore] = {}

    async def store(self, process: Process) -> Store:
        """Return the store as a new process has it."""
        store = self._stores[process.label] = TwinStore(self.server, process.link, self._judge)
        return store

    def forget(self, process: Process) -> None:
        """Report nothing more to a process that is gone."""
        store = self._stores.get(process.label)
        if store is not None:
            store.forget()

    def prove_dead(self, process: Process) -> None:
        """Prove all sessions of the process dead."""
        store = self._stores.get(process.label)
        if store is not None:
            self.server.prove_dead(store.leases)

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        try:
            finish(self.server.ask(name, StepDownRequest(term, to)))
        except Refused:
            pass

    def delete(self, name: str) -> None:
        """Delete a record."""
        self.server.delete(name)

    def scribble(self, name: str) -> None:
        """Write something foreign."""
        self.server.scribble(name)

    def wipe(self) -> None:
        """Remove what is foreign."""
        self.server.wipe()

    def back_up(self) -> None:
        """Keep a copy."""
        self.server.back_up()

    def restore(self) -> bool:
        """Go back to the copy."""
        return self.server.restore()
