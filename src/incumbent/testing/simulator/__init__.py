"""A seeded simulator: the production core and driver on twins of clock, kernel, network and store.

    world      true time, chance, and hosts' clocks that differ
    loop       an event loop of one process, which can be paused and killed
    network    what may become of a message
    twin       the store's logic at the far end of that network
    process    one candidate process, its work, and the kernel's timer
    faults     what goes wrong
    members    a member of another library, which keeps its rules, and what breaks them
    judge      the rules, checked after every step
    kubernetes the twin of an API server, under the production store for Leases
    kubernetes_deaths  the twin of kubelets beside it, which report who has ended
    queue      the twin of a server of queues, in which members of others stand; `queue_faults`
    machine    the twin of threads, inotify and locks that die with their process
    sqlite     the production store for SQLite over it, and `sqlite_faults`
    keyvalue, sql, joined, beside  twins of servers, under the production stores over them
    bench      what a history needs of a store
    stores     which stores there are
    history    one seed's history, from its settings to peace

Run it with `python -m incumbent.testing.simulator --help`.
"""

from incumbent.testing.simulator.history import History, Outcome
from incumbent.testing.simulator.stores import STORES, simulate

__all__ = ["STORES", "History", "Outcome", "simulate"]
