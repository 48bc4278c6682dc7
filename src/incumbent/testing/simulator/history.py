"""One history: candidates, a server, faults; then peace, in which somebody must lead.

Where a store proves deaths, the leader is killed once more in the end: others must follow at once.

A seed decides everything, the settings included: how many hosts and elections, TTL and rho, whose
clocks go how fast, who is armed, what goes wrong and when. Settings are drawn towards the extremes
that rho allows, since mistakes show there.

A history in which too little happened proves nothing: it is *void* below `LEAST_FAULTS` faults or
`LEAST_TAKEOVERS` takeovers.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from incumbent.core.timing import Timing
from incumbent.runtime.hub import Hub
from incumbent.runtime.turns import AT_ONCE, Turns
from incumbent.testing.simulator.bench import Bench
from incumbent.testing.simulator.faults import FAULTS, TAMPERING, Fault, restore
from incumbent.testing.simulator.judge import Judge, Violated
from incumbent.testing.simulator.network import Link, Network, Weather
from incumbent.testing.simulator.process import Host, Manners, Process
from incumbent.testing.simulator.world import HostClock, World

__all__ = ["LEAST_FAULTS", "LEAST_TAKEOVERS", "History", "Kind", "Outcome", "run"]

LEAST_FAULTS = 5
LEAST_TAKEOVERS = 2

MOST_STEPS = 50_000
"""Ten times what a long history needs, and twice one in which all read after each renewal."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store.

    Attributes:
        bench: makes what a history needs of it; told whether an absence proves a vacancy.
        whole_seconds: whether it keeps the TTL in whole seconds.
        proves_death: whether the death of a process is proven to the others at once.
        faults: what can go wrong with it, and how often.
        take_trips: how many round trips one after the other a take needs.
        hears_of_tampering: whether a holder whose watch is silent loses its trust before others may
            take what somebody deleted.
        tampering: what people can do to it.
    """

    bench: Callable[[History, bool], Bench]
    whole_seconds: bool
    proves_death: bool = False
    take_trips: int = 1
    hears_of_tampering: bool = False
    faults: tuple[tuple[Fault, float], ...] = FAULTS
    tampering: tuple[tuple[Fault, float], ...] = TAMPERING


@dataclass(slots=True)
class Outcome:
    """What came of one history.

    Attributes:
        rule: the rule that was broken, or "".
        text: how.
        faults: how often which fault was brought about.
        messages: how often which message was lost, late or doubled, besides.
        tampered: whether somebody wrote over a record or deleted one.
        rolled_back: whether the store went back in time.
        excused: whether some rules were not asked to the end; see `judge`.
        recovery: time until somebody led again in every election, in TTLs.
    """

    seed: int
    rule: str = ""
    text: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    terms: int = 0
    takeovers: int = 0
    tampered: bool = False
    rolled_back: bool = False
    excused: bool = False
    steps: int = 0
    recovery: float = 0.0
    transcript: tuple[str, ...] = ()

    @property
    def void(self) -> bool:
        """Whether too little happened for the history to prove anything."""
        few = self.faults.total() < LEAST_FAULTS or self.takeovers < LEAST_TAKEOVERS
        return few and not self.rule


class History:
    """The history of one seed."""

    def __init__(
        self, seed: int, *, kind: Kind, transcript: bool = False, patient: bool = False
    ) -> None:
        self._patience = random.Random(seed) if patient else None
        self.world = World(seed, transcript=transcript)
        self.rng = rng = self.world.rng
        self.judge = Judge(self.world)
        self.on_peace: list[Callable[[], None]] = []
        self._kind = kind
        self.outcome = Outcome(seed)
        self.tampering = rng.random() < 0.15
        self._rolls_back = not self.tampering and rng.random() < 0.05
        self._evidence = rng.random() < 0.3
        self.rho = rng.choice((0.10, 0.10, 0.10, 0.01, 0.25))
        self.ttl_s = rng.choice((2.0, 5.0, 10.0, 15.0, 30.0))
        self._timing = self._some_timing(self.ttl_s)
        self._mixed = not self.tampering and rng.random() < 0.3
        self.elections = ["a"] if rng.random() < 0.65 else ["a", "b", "c"][: rng.choice((2, 2, 3))]
        for name in self.elections:
            self.judge.add(name)
        share = rng.choice((0.001, 0.001, 0.02, 0.08))
        self.slow = share > 0.05
        """Whether a few messages one after the other take a good part of a TTL."""
        delay_s = self._timing.attempt_s * share / kind.take_trips
        self.network = Network(self.world, Weather(delay_s=delay_s))
        self.relies_on_notices = self.tampering and not kind.hears_of_tampering
        self.network.prompt_notices = self.relies_on_notices
        absent_is_vacant = not self.tampering and rng.random() < 0.7
        self.bench = kind.bench(self, absent_is_vacant)
        self._armed = rng.choice((1.0, 1.0, 0.5, 0.0))
        self.hosts: list[Host] = []
        self.alive: list[Process] = []
        self._generation = 0
        self._peace = False
        self._over = False
        self._peace_at = math.inf
        self._looked_for = False
        self._encored = False

    # -- making candidates ------------------------------------------------------------------------

    def new_host(self) -> Host:
        """Add a host with clocks of its own."""
        rng = self.rng
        clock = HostClock(self.world, self.some_rate(), rng.uniform(1.0, 1e5))
        ttl_s = self.ttl_s * rng.choice((1.0, 0.4, 2.0)) if self._mixed else self.ttl_s
        timing = self._timing if ttl_s == self.ttl_s else self._some_timing(ttl_s)
        name = chr(ord("p") + len(self.hosts) % 10) + "x" * (len(self.hosts) // 10)
        host = Host(name, clock, timing, armed=rng.random() < self._armed)
        self.hosts.append(host)
        return host

    def some_rate(self) -> float:
        """Return a clock rate that rho allows, often the greatest or the least."""
        return 1 + self.rho * self.rng.choice((-1, -1, 1, 1, 0, self.rng.uniform(-1, 1)))

    def _some_timing(self, ttl_s: float) -> Timing:
        rng = self.rng
        if self._kind.whole_seconds:
            ttl_s = float(math.ceil(ttl_s))
        grace_s = None if rng.random() < 0.6 else ttl_s * rng.choice((0.0, 0.05, 0.3))
        return Timing.plan(
            ttl_s, rho=self.rho, grace_s=grace_s, whole_seconds=self._kind.whole_seconds
        )

    def spawn(self, host: Host, identity: str = "") -> None:
        """Start a process with a candidate in every election."""
        rng = self.rng
        self._generation += 1
        identity = identity or f"{host.name}_{rng.getrandbits(24):06x}"
        label = f"{host.name}{self._generation}"
        process = Process(self.world, self.judge, self.network, host, label, identity, self._died)
        if self._patience is not None:
            process.hold_back = partial(self._hold_back, host.timing, self._patience)
        self.alive.append(process)
        grace_s = host.timing.grace_s
        manners = Manners(grace_s * rng.choice((0.0, 0.1, 0.5, 0.8)))
        if not self._peace and rng.random() < 0.05:
            manners.lives_s = host.timing.ttl_s * (0.05 + 1.95 * rng.random())
        process.run(self._hub, list(self.elections), manners)

    async def _hold_back(
        self, timing: Timing, rng: random.Random, stands: Callable[[], bool]
    ) -> bool:
        """Hold a take back as somebody may who is no friend: for long, and then for nothing."""
        await asyncio.sleep(timing.attempt_s * rng.choice((0.0, 0.01, 0.3, 0.95, 1.1)))
        return rng.random() < 0.8

    async def _hub(self, process: Process) -> Hub:
        store = await self.bench.store(process)
        clock = process.clock.boot
        turns = Turns(1 if self.outcome.seed % 7 == 0 else AT_ONCE)
        return Hub(store, process.identity, process.watchdog(), clock, process.alarms, turns)

    def _died(self, process: Process, cause: str) -> None:
        self.alive.remove(process)
        self.bench.forget(process)
        rng = self.rng
        if self._evidence:
            self.world.after(self.ttl_s * rng.random() ** 3, self.bench.prove_dead, process)
        host = process.host
        if sum(1 for other in self.alive if other.host is host):
            return
        identity = process.identity if rng.random() < 0.2 else ""
        after_s = 0.01 if self._peace else self.ttl_s * 2 * rng.random() ** 2
        if self._encored:
            after_s = self.ttl_s  # A newcomer looks by itself; this is about those who wait.
        if len(self.alive) < 5:
            self.world.after(after_s, self._restart, host, identity)

    def _restart(self, host: Host, identity: str) -> None:
        if any(process.host is host for process in self.alive):
            return
        if host.clock.suspended:
            self.world.after(self.ttl_s * 0.1, self._restart, host, identity)
        else:
            self.spawn(host, identity)

    # -- whom faults strike -----------------------------------------------------------------------

    def any_process(self) -> Process | None:
        """Return a process that is not frozen, if there is one."""
        awake = [process for process in self.alive if not process.frozen]
        return self.rng.choice(awake) if awake else None

    def victim(self) -> Process | None:
        """Return a process that is not frozen, most often a leader."""
        leaders = [process for process in self.alive if process.leading]
        if leaders and self.rng.random() < 0.75:
            return self.rng.choice(leaders)
        return self.any_process()

    def some_leader(self) -> tuple[str, Process | None]:
        """Return an election and who leads it, if anybody."""
        name = self.rng.choice(self.elections)
        return name, next((process for process in self.alive if process.leads(name)), None)

    def some_host(self) -> Host:
        """Return a host."""
        return self.rng.choice(self.hosts)

    def somebody(self) -> str:
        """Return what people call a candidate, or one that does not exist."""
        return self.rng.choice([*(host.name for host in self.hosts), "nobody"])

    def process_of(self, link: Link) -> Process | None:
        """Return the process that has a link, if it lives."""
        return next((process for process in self.alive if process.link is link), None)

    def pause(self, process: Process, for_s: float) -> None:
        """Stop a process for a while."""
        if process.alive and not process.frozen:
            process.pause()
            self.world.after(for_s, process.resume)

    # -- the course of things ---------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let it happen."""
        outcome, world = self.outcome, self.world
        self._plan()
        try:
            while world.step():
                self.judge.check()
                if world.steps > MOST_STEPS:
                    raise Violated(
                        "crash", f"more than {MOST_STEPS} steps: it goes round in circles"
                    )
                if self._over or (self._peace and self._settled() and not self._encore()):
                    break
        except Violated as violation:
            outcome.rule, outcome.text = violation.rule, str(violation)
        outcome.recovery = (world.now - self._peace_at) / self.ttl_s if self._peace else 0.0
        for process in list(self.alive):
            process.loop.drop()
        self.bench.end()
        outcome.messages = self.network.faults
        outcome.notes = self.judge.notes
        outcome.terms, outcome.takeovers = self.judge.terms, self.judge.takeovers
        outcome.excused = self.judge.excused
        outcome.steps = world.steps
        outcome.transcript = world.transcript
        return outcome

    def _plan(self) -> None:
        rng, world, ttl_s = self.rng, self.world, self.ttl_s
        for _ in range(rng.choice((2, 3, 3, 3, 4))):
            world.after(ttl_s * 0.3 * rng.random(), self.spawn, self.new_host())
        kind = self._kind
        table = [*kind.faults, *(kind.tampering if self.tampering else ())]
        deeds, weights = [deed for deed, _ in table], [weight for _, weight in table]
        instant = ttl_s * (0.4 + rng.random())
        for deed in rng.choices(deeds, weights, k=rng.randint(9, 13)):
            world.at(instant, self._strike, deed)
            instant += ttl_s * rng.expovariate(1 / 0.75)
        if self._rolls_back:
            outcome_at = instant * (0.4 + 0.5 * rng.random())
            world.at(outcome_at * rng.random(), self.bench.back_up)
            world.at(outcome_at, self._strike, restore)
        world.at(instant + ttl_s * rng.random(), self._make_peace)

    def _strike(self, deed: Fault) -> None:
        name = deed.__name__.replace("_", " ")
        self.world.write("FAULT", name)
        if deed(self):
            self.outcome.faults[name] += 1
            if any(deed is tampering for tampering, _ in self._kind.tampering):
                self.outcome.tampered = True
            elif deed is restore:
                self.outcome.rolled_back = True

    def _make_peace(self) -> None:
        self.world.write("PEACE", "all faults end")
        self._peace, self._peace_at = True, self.world.now
        for call in self.on_peace:
            call()
        self.bench.wipe()
        self.network.heal()
        for process in list(self.alive):
            works = [worker.work for worker in process.workers.values()]
            if any(work is not None and work.running and work.told for work in works):
                process.die("killed by an operator when peace was made")
                continue
            for worker in process.workers.values():
                worker.manners.stops_after_s = 0.0
                worker.manners.lives_s = math.inf
            process.wake()
            process.resume()
        for host in self.hosts:
            if host.clock.suspended:
                host.clock.resume()
            self._restart(host, "")
        longest_s = max(host.timing.ttl_s for host in self.hosts)
        self.world.after(3 * longest_s + 10.0, self._give_up)

    def _settled(self) -> bool:
        if not self._led():
            return False
        if not self._looked_for:
            self._looked_for = True
            self.world.after(self.ttl_s * 0.5, self._look)
        bench, peace_at = self.bench, self._peace_at
        return bench.hindered(self.alive, peace_at) or bench.up_to_date(self.alive)

    def _led(self) -> bool:
        return all(any(p.leads(name) for p in self.alive) for name in self.elections)

    def _look(self) -> None:
        """See that everybody has heard of what is there, within a time that is ample."""
        self._looked_for = False
        if self._led() and not self.outcome.rolled_back:
            self.judge.stalled("what a standby watches is not what is there, and nothing is wrong")

    def _encore(self) -> bool:
        """Kill whoever leads, if that is proof enough for the others; False if it is over."""
        kind = self._kind
        if self._encored or not kind.proves_death or self.outcome.rolled_back:
            return False
        self._encored = True
        heirs = [
            process
            for process in self.alive
            if all(worker.stands_by for worker in process.workers.values())
        ]
        if not heirs or self.bench.hindered(self.alive, self._peace_at):
            return False
        for process in [process for process in self.alive if process.leading]:
            process.die("killed, which is proof of its death")
        self.world.after(self.ttl_s * 0.5, self._see_proof)
        return True

    def _see_proof(self) -> None:
        if not self._led():
            self.judge.stalled("the leader was proven dead, and nobody followed at once")

    def _give_up(self) -> None:
        if self.outcome.rolled_back:
            self._over = True
            return
        self.judge.stalled("nobody leads although nothing has been wrong for long")


def run(seed: int, *, kind: Kind, transcript: bool = False, patient: bool = False) -> Outcome:
    """Run the history of one seed; if `patient`, takes are held back before they are sent."""
    outcome = History(seed, kind=kind, transcript=transcript, patient=patient).run()
    if seed % 64 == 0:
        gc.collect()
    return outcome
