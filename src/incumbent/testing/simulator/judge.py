"""Who led when, who worked when, and whether that was allowed.

Rules
-----
After every step, from true time and from what the workers themselves wrote down:

1. `two-valid`: at no instant do two candidates have a term of one election whose `check()` passes,
   each asked on its own clock.
2. `two-works`: at no instant does work of two terms run. Work that nobody can end (not armed, and
   it was paused or would not stop) is excused; a term's validity never is.
3. `overrun`: work that is armed never runs when its trust has run out, later than the kernel needs
   to kill: the margin, in true time.
4. `token`: tokens rise strictly in the order in which terms begin.
5. `early-release`: nothing is released while work of that term runs; neither sent nor done.
6. `late-release`: no release is sent after a loss.
7. `robbed`: no take happens over a term that is still valid, or whose armed work still runs.
8. `deposed`: who is told of being deposed has a term that does not pass any more.
9. `stuck`: work that would not stop keeps no lease alive.
10. `needless-kill`: the kernel's timer ends a process only if some of its work is over its time.
11. `crash`: nothing in a process raises what nobody expects, or goes round in circles.
12. `evidence`: nobody is proven dead of whom something lives.
13. `lock`: the lock file of a session is there, for as long as it may have to prove a death.
14. `bell`: what was committed is told to everybody, and no sooner.
15. `theirs`: nobody of ours holds while a member of another library does, by its server's word and
    by that library's rules. What its store declares that they break is no such case, nor is what
    follows from it for a while (`excuse_theirs`).
16. `outlived`: whose place was taken away by hand is trusted for what was left to it, at most.
17. `liveness`: when faults have stopped, somebody leads in every election before long; whoever
    stands by watches what is there; and who is proven dead is followed at once.

A store that went back in time breaks the assumption of 1, 2, 4, 7 and of what a server does in 5;
from then on, or for a while, these are not asked (`excuse`). The others are. In a queue of others a
place may be taken away by hand, as each such store declares: the robbed is no case of 1, 2 and 15
any more, but of 16. Work of a paused process does not run; its term may be valid.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from incumbent.core.events import Why
from incumbent.errors import LeadershipLost
from incumbent.runtime.term import Term
from incumbent.testing.simulator.world import HostClock, World

__all__ = ["Actor", "Judge", "Violated", "Work"]


class Violated(Exception):
    """A rule was broken. Ends the history."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Actor(Protocol):
    """A process, as far as it is judged."""

    @property
    def label(self) -> str:
        """Identify the process in a transcript."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it exists."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether it exists and does nothing."""
        ...

    @property
    def clock(self) -> HostClock:
        """The clock of its host."""
        ...


@dataclass(slots=True, eq=False)
class Work:
    """The work of one term, as its worker wrote it down.

    Attributes:
        trusted_until: the last instant of the host's clock at which the term said it is trusted.
        free: nobody can end it and it does not end in time, so it may meet other work.
        stuck: it was reported as stuck.
        over_by: the last instant of the host's clock at which it may be trusted, since its place
            was taken away by hand.
    """

    election: str
    actor: Actor
    term: Term
    armed: bool
    margin_s: float
    session: str
    trusted_until: float
    running: bool = True
    told: Why | None = None
    free: bool = False
    stuck: bool = False
    over_by: float = math.inf

    @property
    def acting(self) -> bool:
        """Whether it runs now."""
        return self.running and self.actor.alive and not self.actor.frozen

    @property
    def valid(self) -> bool:
        """Whether its term may act now, asked on its own clock."""
        if not self.actor.alive:
            return False
        try:
            self.term.check()
        except LeadershipLost:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.actor.label} (token {self.term.token})"


@dataclass(slots=True)
class _Election:
    works: list[Work] = field(default_factory=list)
    token: int = 0
    leader: str = ""
    terms: int = 0
    takeovers: int = 0
    excused_until: float = -math.inf
    excused_ever: bool = False
    theirs: str = ""
    theirs_excused_until: float = -math.inf
    removed: dict[int, float] = field(default_factory=dict)


class Judge:
    """Keeps the record of all elections, and raises `Violated`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._elections: dict[str, _Election] = {}
        self._sessions: dict[tuple[str, str], str] = {}
        self.verdict: Violated | None = None
        self.notes: Counter[str] = Counter()

    @property
    def takeovers(self) -> int:
        """How often a term began that belonged to another process than the one before."""
        return sum(election.takeovers for election in self._elections.values())

    @property
    def terms(self) -> int:
        """How many terms have begun."""
        return sum(election.terms for election in self._elections.values())

    def add(self, name: str) -> None:
        """Watch one more election."""
        self._elections[name] = _Election()

    def excuse(self, name: str = "", for_s: float = math.inf) -> None:
        """Do not ask what a store that lost its memory cannot keep, in one election or in all."""
        for candidate, election in self._elections.items():
            if name in ("", candidate):
                until = self._world.now + for_s
                election.excused_until = max(election.excused_until, until)
                election.excused_ever = True

    @property
    def excused(self) -> bool:
        """Whether some rules were not asked for a while."""
        return any(election.excused_ever for election in self._elections.values())

    def _excused(self, election: _Election) -> bool:
        return self._world.now < election.excused_until

    def works(self, name: str) -> list[Work]:
        """Return the works of an election that are not over, or whose terms are still valid."""
        return self._elections[name].works

    # -- what workers write down ------------------------------------------------------------------

    def begun(self, actor: Actor, term: Term, *, armed: bool, margin_s: float) -> Work:
        """Note that work begins."""
        election = self._elections[term.name]
        session = self._sessions.get((term.name, term.id), "")
        work = Work(term.name, actor, term, armed, margin_s, session, term.valid_until)
        election.terms += 1
        if election.leader not in ("", actor.label):
            election.takeovers += 1
        election.leader = actor.label
        work.over_by = election.removed.get(term.token or 0, math.inf)
        election.works.append(work)
        self._world.write(actor.label, f"BEGINS term {term.token} of {term.name} ({term.id})")
        token = term.token or 0
        if token <= election.token and not self._excused(election):
            self._violated("token", f"{work} begins {term.name} after token {election.token}")
        election.token = max(election.token, token)
        if not work.valid:
            self._violated("overrun", f"{work} begins {term.name} without any trust")
        return work

    def told(self, work: Work, why: Why, cause: str) -> None:
        """Note that a worker was asked to stop."""
        work.told = why
        self._world.write(work.actor.label, f"is to stop {work.election}: {why.value} ({cause})")
        if why is Why.DEPOSED and work.valid:
            self._violated("deposed", f"{work} was deposed and may still act")

    def ended(self, work: Work) -> None:
        """Note that all of the work has ended."""
        work.running = False
        self._world.write(work.actor.label, f"ENDS term {work.term.token} of {work.election}")

    # -- what the store sees ----------------------------------------------------------------------

    def taken(self, name: str, before: str, term: str, session: str) -> None:
        """Note a take that happened, over the term `before`."""
        self._sessions[name, term] = session
        election = self._elections[name]
        if self._excused(election):
            return
        for work in election.works:
            if work.term.id == before and (work.valid or (work.armed and work.acting)):
                self._violated("robbed", f"{work} is robbed of {name} by {term}")

    def releasing(self, name: str, term: str) -> None:
        """Note that a release is sent."""
        for work in self._elections[name].works:
            if work.term.id != term or not work.actor.alive:
                continue
            if work.running:
                self._violated("early-release", f"{work} releases {name} and still works")
            if work.told in (Why.LOST, Why.DEPOSED):
                self._violated("late-release", f"{work} lost {name} and releases it")
            if work.actor.clock.boot() >= work.trusted_until:
                self._violated("late-release", f"{work} releases {name}, not trusted any more")

    def freed(self, name: str, term: str) -> None:
        """Note that the server gave up a term.

        A release that was under way when the store lost its memory may find a later record at the
        version that it names: the numbers are given out again.
        """
        election = self._elections[name]
        if self._excused(election):
            return
        for work in election.works:
            if work.term.id == term and work.running and work.actor.alive:
                self._violated("early-release", f"{work} works, and {name} is released")

    def session_closed(self, session: str) -> None:
        """Note that a session is ended by its owner."""
        for election in self._elections.values():
            for work in election.works:
                if work.session == session and work.running and work.actor.alive:
                    self._violated("early-release", f"{work} works, and its session is ended")

    # -- what the server of a queue sees ----------------------------------------------------------

    def left(self, name: str, token: int) -> None:
        """Note that the owner of a place, whose term has this token, gave it up."""
        for work in self._holding(name, token):
            if work.running and work.actor.alive:
                self._violated("early-release", f"{work} works, and leaves the queue of {name}")

    def expired(self, name: str, token: int) -> None:
        """Note that the server gave up a place, whose owner it had not heard of for long."""
        for work in self._holding(name, token):
            if work.valid or (work.armed and work.acting):
                self._violated("robbed", f"{work} loses its place in the queue of {name}")

    def removed(self, name: str, token: int, until: float) -> None:
        """Note that a place was taken away by hand.

        Args:
            name: the election.
            token: of the term that is held by the place, or would be.
            until: the last instant of its host's clock at which its owner may trust it.
        """
        self._elections[name].removed[token] = until
        for work in self._elections[name].works:
            if work.term.token == token:
                work.over_by = min(work.over_by, until)

    def _holding(self, name: str, token: int) -> list[Work]:
        election = self._elections[name]
        if self._excused(election):
            return []
        return [work for work in election.works if work.term.token == token]

    def running(self, actor: Actor) -> list[Work]:
        """Return the works of a process that run, or would if it were not frozen."""
        return [
            work
            for election in self._elections.values()
            for work in election.works
            if work.actor is actor and work.running
        ]

    def disproved(self, actor: Actor) -> None:
        """Note that somebody was told that all of a process is gone, and it is not."""
        self._violated("evidence", f"{actor.label} lives, and its death is taken for proven")

    def unlocked(self, who: str) -> None:
        """Note that the lock file of a session is removed, which is not over."""
        self._violated("lock", f"{who} removes the lock file of a session that is not over")

    def misrung(self, who: str, text: str) -> None:
        """Note that others are told too early, or not at all."""
        self._violated("bell", f"{who} {text}")

    # -- what members of another library do

    def theirs(self, name: str, who: str) -> None:
        """Note which member of another library holds, and keeps its rules; "" for none."""
        self._elections[name].theirs = who

    def excuse_theirs(self, name: str, for_s: float) -> None:
        """Ask nothing of them for a while, after what they or people have done to a lock."""
        election = self._elections[name]
        election.theirs = ""
        until = self._world.now + for_s
        election.theirs_excused_until = max(election.theirs_excused_until, until)

    # -- what is checked after each step ----------------------------------------------------------

    def check(self) -> None:
        """Raise if a rule is broken now, or was broken in this step."""
        if self.verdict is not None:
            raise self.verdict
        for name, election in self._elections.items():
            works = election.works
            if not works:
                continue
            left = [work for work in works if self._goes_on(work)]
            if len(left) < len(works):
                election.works = left
            crowded = len(election.works) > 1 or election.theirs
            if crowded and not self._excused(election):
                self._check_alone(name, election)
        if self.verdict is not None:
            raise self.verdict

    def _goes_on(self, work: Work) -> bool:
        """Look at one work, and tell whether anything of it, or of its term, is left."""
        if not work.actor.alive:
            return False
        until = work.term.valid_until
        if until > work.trusted_until:
            if work.stuck:
                self._violated("stuck", f"{work} would not stop and is renewed")
            work.trusted_until = until
        if until > work.over_by + 1e-6 and not self._excused(self._elections[work.election]):
            self._violated("outlived", f"{work} has no place any more and is trusted anew")
        if work.running and work.armed and not work.actor.frozen:
            self._check_end(work)
        return work.running or until != -math.inf

    def _check_end(self, work: Work) -> None:
        clock = work.actor.clock
        if clock.boot() > work.trusted_until:
            late_s = self._world.now - clock.true_of_boot(work.trusted_until)
            if late_s > work.margin_s:
                self._violated("overrun", f"{work} works {late_s:.3f} s past its trust")

    def _check_alone(self, name: str, election: _Election) -> None:
        works = [work for work in election.works if work.over_by == math.inf]
        valid = [work for work in works if work.valid]
        if len(valid) > 1:
            self._violated("two-valid", f"{name}: {valid[0]} and {valid[1]}")
        acting = [work for work in works if work.acting and not work.free]
        if len(acting) > 1:
            self._violated("two-works", f"{name}: {acting[0]} and {acting[1]}")
        if self._world.now < election.theirs_excused_until:
            return
        if election.theirs and (valid or acting):
            who = (valid or acting)[0]
            self._violated("theirs", f"{name}: {who}, and {election.theirs} by its server's word")

    def killed(self, actor: Actor) -> None:
        """Note that the kernel's timer fires."""
        now = actor.clock.boot() + 1e-6
        works = [work for work in self.running(actor) if work.armed]
        if not any(
            work.term.valid_until == -math.inf or now >= work.trusted_until for work in works
        ):
            self._violated(
                "needless-kill", f"{actor.label} is killed, and nothing is over its time"
            )

    def crashed(self, who: str, text: str) -> None:
        """Note what should never have been raised."""
        self._violated("crash", f"{who}: {text}")

    def stalled(self, text: str) -> None:
        """Note that nobody leads when somebody should."""
        self._violated("liveness", text)

    def _violated(self, rule: str, text: str) -> None:
        """Remember the first violation; production code may be on the stack, so raise later."""
        if self.verdict is None:
            self.verdict = Violated(rule, text)
            self._world.write("JUDGE", str(self.verdict))
