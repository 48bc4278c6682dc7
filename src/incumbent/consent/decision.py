"""May this Pod be evicted now? Pure: what was asked, what there is to see, and the time go in.

Rules
-----
1. The answer is *yes* or *not yet*, and never *no*: 429 is what `kubectl drain` waits for, and
   after any other refusal it breaks off. Each *not yet* says whom it waits for and what ends it.
2. Only who lives is protected. A Pod that has ended, is ending, has not started, or is not ready
   passes: to evict it interrupts nothing. The API server passes the first three by every budget,
   and the budgets that we write pass the last (`AlwaysAllow`), so nothing is held up here that
   would not be held up there.
3. An **only replica** (`incumbent.dev/singleton`, or a mode of one replica) waits for its owner.
   Without an owner there is nobody to ask, and then nobody is asked.
4. An **active candidate** (the role label) is told to hand over, and passes once its role is gone.
   It is waited for only so long: whoever elects hands over on SIGTERM as well, so an eviction costs
   a planned handover, and one that does not listen must not hold up a node for ever. Is
   there nobody to hand over to, then it is an only replica for the time being. **The wait is that
   of one drain, and begins when it is told**: a drain that was given up, or a time in which there
   was nobody to hand over to, has used up nothing of it. Who has not asked for `PAUSE` has given
   up; drains ask every few seconds, and the slowest that are known every 20. The price: who
   evicts by hand, more rarely than that, begins anew each time and does not come to its end. A new
   drain is a new request, also to the candidate: it hands over once for each (`handover`).
5. A **standby** is nobody's business here.
6. Consent is of a *Pod*, one life of it: it stands in its annotations, and the next Pod of the same
   name has none. It is looked at last: whatever else lets the Pod go leaves a "once" unused.
7. "Once" is used up by the write that comes before the answer (`Verdict.change`), on the very
   version of the Pod that was read. Of two that ask at once one has its write refused, and sees a
   Pod without consent then. A yes whose eviction fails after all (another webhook, a budget) has
   used it up too: to ask again does no harm, and to move it twice could.
8. Before a "once" is spent, the budgets are looked at: a budget that stands would refuse the
   eviction after us. Ours leave out what has the label `incumbent.dev/let-go`, which the same write
   sets, so such a budget guards the Pod while this webhook is away, and gives way to its yes.
   The label is taken back with a later refusal, or by `sweep` if there is none, for its eviction
   has failed then; but not within the time in which that eviction may still be on its way. **Each
   yes writes the label and its time anew**, also where it is set: so a yes and a removal are two
   writes of one version, of which one is refused, and no yes relies on a label that just goes.
9. A dry run changes nothing: no request is recorded, no consent used. `kubectl drain` asks for one
   in the eviction's own options, where the API server does not see it in time to say so.
10. An eviction that names a uid or a version of the Pod is for that Pod only. One that names
    another uid passes: the API server refuses it itself, with 409. One that names a version cannot
    pass if a change has to be written first, since it would not be the version any more.
11. A request lapses when nobody repeats it for an hour. Otherwise an expiry would have passed long
    before the next drain, of another month, and nobody would have been asked about that one.
12. What cannot be understood is not there: consent or a window of any other form is none, and the
    refusal says so; a time of a request that is none is written anew.

Theory
------
Between our yes and the API server's own look at the Pod another one of the same name may have come.
It is not the one that was consented to. It has no label, so a budget guards it; and being new it is
not ready, so there is nothing to interrupt (rule 2). Who only says yes or no to an eviction cannot
bind it to a uid.

Times are compared across hosts here: a replica of the webhook writes when a request came, another
one reads it, and a person has said until when. They are hours; clocks differ by less. No election
hangs on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from incumbent.audit.objects import Object, at, mapping, strings
from incumbent.audit.selectors import selects
from incumbent.consent.pods import (
    LAPSES,
    ONCE,
    PAUSE,
    PAUSE_SEEN_EVERY,
    REPEATED_EVERY,
    Kind,
    is_live,
    kind_of,
    moment,
    requested_at,
    shown,
    until_of,
)
from incumbent.consent.windows import closing
from incumbent.errors import ConfigError
from incumbent.manifests import marks

__all__ = ["Asked", "Rules", "Sight", "Verdict", "Why", "decide"]

LINGERS = timedelta(seconds=60)
"""How long the eviction that was let through may be on its way: the API server's own limit for any
request, which began before we were asked.
"""


class Why(StrEnum):
    """The reason of a verdict."""

    UNCONCERNED = "unconcerned"
    """Neither an only replica nor active."""
    NOT_RUNNING = "not-running"
    """There is nothing to interrupt."""
    OTHER_POD = "other-pod"
    """The eviction is for a Pod that is gone."""
    NO_OWNER = "no-owner"
    """Nobody is named who could be asked."""
    WINDOW = "maintenance-window"
    UNTIL = "consent-until"
    ONCE = "consent-once"
    EXPIRED = "expired"
    """Nobody answered within the stated time."""
    HANDOVER_OVERDUE = "handover-overdue"
    """It was told to hand over, and has had its time."""
    ASK_OWNER = "ask-owner"
    HAND_OVER = "hand-over"
    BUDGET = "budget"
    """A budget would refuse what may go."""
    VERSION = "version"
    """The eviction names a version that ends with our own write."""
    UNABLE = "unable"
    """It could not be looked at, or not be written down."""
    UNKNOWN_POD = "unknown-pod"


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation has chosen.

    Attributes:
        expiry: how long an owner has for an answer; None for ever.
        retry_s: when an owner's answer is asked for again.
        handover: how long an active candidate has to hand over.
    """

    expiry: timedelta | None = None
    retry_s: int = 1
    handover: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Asked:
    """One eviction.

    Attributes:
        review: the uid of the question.
        namespace: of the Pod.
        name: of the Pod.
        user: who evicts.
        dry_run: whether nothing is meant to happen.
        uid: which Pod is meant; "" for any of that name.
        version: which version of it is meant; "" for any.
    """

    review: str
    namespace: str
    name: str
    user: str = ""
    dry_run: bool = False
    uid: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see.

    Attributes:
        pod: the Pod.
        above: the annotations of what controls it, the nearest first.
        others: how many could take over from it, of an active one.
        budgets: the budgets of its namespace.
    """

    pod: Object
    above: Sequence[Mapping[str, str]] = ()
    others: int = 0
    budgets: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is answered, once `change` has been written.

    Attributes:
        allowed: yes, or not yet.
        why: in a word.
        text: in a sentence, for whoever evicts.
        retry_s: when to ask again.
        causes: what the refusal waits for, as type and text.
        change: labels and annotations to write into the Pod, None for what is to go.
        owner: who was, or is to be, asked.
    """

    allowed: bool
    why: Why
    text: str
    retry_s: int = 0
    causes: tuple[tuple[str, str], ...] = ()
    change: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    owner: str = ""


def decide(asked: Asked, sight: Sight, rules: Rules, now: datetime) -> Verdict:
    """Return the verdict on one eviction."""
    verdict = _verdict(asked, sight, rules, now)
    if asked.dry_run:
        return replace(verdict, change={})
    if verdict.change and asked.version:
        return Verdict(
            False,
            Why.VERSION,
            f"Pod {asked.name}: the eviction names resourceVersion {asked.version}, and what is "
            "decided is written into the Pod first: evict it without one",
            rules.retry_s,
            owner=verdict.owner,
        )
    return verdict


def _verdict(asked: Asked, sight: Sight, rules: Rules, now: datetime) -> Verdict:
    pod = sight.pod
    if asked.uid and asked.uid != at(pod, "metadata", "uid"):
        return Verdict(True, Why.OTHER_POD, "it is for another Pod of that name")
    kind = kind_of(pod)
    if kind is Kind.OTHER:
        return Verdict(True, Why.UNCONCERNED, "neither an only replica nor active")
    if not is_live(pod):
        return Verdict(True, Why.NOT_RUNNING, "it is not running, or not ready")
    seen = _Seen(asked, sight, rules, now, kind)
    if kind is Kind.ACTIVE and sight.others:
        return seen.of_active()
    if not seen.owner:
        return Verdict(True, Why.NO_OWNER, "no owner is named who could be asked")
    return seen.of_only()


# -- one eviction of one that is protected --------------------------------------------------------


class _Seen:
    """What is known of a Pod that may have to wait."""

    def __init__(self, asked: Asked, sight: Sight, rules: Rules, now: datetime, kind: Kind) -> None:
        self._asked, self._sight, self._rules, self._now = asked, sight, rules, now
        self._kind = kind
        self._labels = strings(at(sight.pod, "metadata", "labels"))
        self._notes = strings(at(sight.pod, "metadata", "annotations"))
        self._complaints: list[str] = []
        self.owner = self._nearest(marks.OWNER)
        self._requested = requested_at(self._notes, now)
        self._repeated = moment(self._notes.get(marks.EVICTION_REPEATED, ""))

    def of_active(self) -> Verdict:
        """Decide on an active one that others could follow."""
        if self._has_paused():
            self._requested = None
        told_at = self._told_to_hand_over()
        if told_at is not None and self._now - told_at >= self._rules.handover:
            text = f"it was told to hand over at {shown(told_at)}, and does so when it is stopped"
            return self._go(Why.HANDOVER_OVERDUE, text, {marks.EVICTION_REPEATED: shown(self._now)})
        name = self._asked.name
        return self._wait(
            Why.HAND_OVER,
            f"Pod {name} is active and has been told to hand over; it may go as soon as another "
            "one is active",
            (("HandoverRequested", f"waiting until Pod {name} has lost {marks.ROLE}=active"),),
            retry_s=1,
            more={} if told_at else {marks.HANDOVER_REQUESTED: shown(self._now)},
        )

    def of_only(self) -> Verdict:
        """Decide on one whose owner is to be asked."""
        closes = self._window()
        if closes is not None:
            return self._go(Why.WINDOW, f"its maintenance window is open until {shown(closes)}")
        until = self._until()
        if until is not None and self._now < until:
            return self._go(Why.UNTIL, f"{self._who()} has consented until {shown(until)}")
        if self._expired():
            text = f"{self.owner} has not answered within {self._rules.expiry}"
            return self._go(Why.EXPIRED, text)
        if self._notes.get(marks.CONSENT) == ONCE:
            used = {marks.CONSENT: None, marks.CONSENT_BY: None}
            return self._go(Why.ONCE, f"{self._who()} has consented, once", used)
        return self._ask()

    # -- what lets it go --------------------------------------------------------------------------

    def _has_paused(self) -> bool:
        """Tell whether nobody has asked for so long that this is another drain."""
        latest = self._repeated or self._requested
        return latest is not None and self._now - latest > PAUSE

    def _told_to_hand_over(self) -> datetime | None:
        """Return since when this drain has told it to hand over."""
        told_at = moment(self._notes.get(marks.HANDOVER_REQUESTED, ""))
        if told_at is None or self._requested is None or told_at < self._requested:
            return None
        return None if told_at - self._now > LAPSES else told_at

    def _nearest(self, key: str) -> str:
        """Return an annotation of the Pod, or of the nearest above that has it."""
        for notes in (self._notes, *self._sight.above):
            if notes.get(key, "").strip():
                return notes[key].strip()
        return ""

    def _window(self) -> datetime | None:
        try:
            return closing(self._nearest(marks.MAINTENANCE_WINDOW), self._now)
        except ConfigError as error:
            self._complaints.append(str(error))
            return None

    def _until(self) -> datetime | None:
        told = self._notes.get(marks.CONSENT, "")
        until = until_of(told)
        if told and told != ONCE and until is None:
            self._complaints.append(
                f"{marks.CONSENT} is {told!r}, which is neither 'once' nor 'until TIME'"
            )
        return until

    def _who(self) -> str:
        """Return who has consented, for the owner, as far as it is known."""
        by = self._notes.get(marks.CONSENT_BY, "")
        return f"{by}, for {self.owner}," if by else self.owner

    def _expired(self) -> bool:
        expiry, requested = self._rules.expiry, self._requested
        return expiry is not None and requested is not None and self._now - requested >= expiry

    # -- verdicts ---------------------------------------------------------------------------------

    def _go(self, why: Why, text: str, more: Mapping[str, str | None] | None = None) -> Verdict:
        standing = self._standing()
        if standing:
            return self._wait(
                Why.BUDGET,
                f"Pod {self._asked.name} may go ({text}), but {standing}",
                (("DisruptionBudget", standing),),
            )
        labels: dict[str, str | None] = {marks.LET_GO: "true"}
        notes: dict[str, str | None] = {
            marks.LET_GO_FOR: f"{shown(self._now)} {self._asked.review}",
            **(more or {}),
        }
        return Verdict(True, why, text, change=_change(labels, notes), owner=self.owner)

    def _ask(self) -> Verdict:
        name, namespace = self._asked.name, self._asked.namespace
        since = self._requested or self._now
        command = f"kubectl incumbent consent {name} -n {namespace}"
        causes = [
            ("OwnerConsentRequired", f"owner: {self.owner}"),
            ("ConsentCommand", command),
            *(("NotUnderstood", text) for text in self._complaints),
        ]
        text = (
            f"Pod {name} is {self._kind}, and its owner, {self.owner}, is asked before it is "
            f"moved (since {shown(since)}). To consent: {command}"
        )
        if self._rules.expiry is not None:
            expires = shown(since + self._rules.expiry)
            text += f". Without an answer it may go at {expires}"
            causes.append(("Expires", expires))
        if self._complaints:
            text += f". Not understood: {'; '.join(self._complaints)}"
        return self._wait(Why.ASK_OWNER, text, tuple(causes))

    def _wait(
        self,
        why: Why,
        text: str,
        causes: tuple[tuple[str, str], ...],
        retry_s: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Verdict:
        labels: dict[str, str | None] = {}
        notes: dict[str, str | None] = dict(more or {})
        repeated = self._repeated
        every = PAUSE_SEEN_EVERY if self._kind is Kind.ACTIVE else REPEATED_EVERY
        if self._requested is None:
            notes[marks.EVICTION_REQUESTED] = shown(self._now)
            notes[marks.EVICTION_REQUESTED_BY] = self._asked.user
            notes[marks.EVICTION_REPEATED] = shown(self._now)
        elif repeated is None or self._now - repeated >= every:
            notes[marks.EVICTION_REPEATED] = shown(self._now)
        if marks.LET_GO in self._labels and not self._lingers():
            labels[marks.LET_GO] = None
            notes[marks.LET_GO_FOR] = None
        retry_s = self._rules.retry_s if retry_s is None else retry_s
        return Verdict(False, why, text, retry_s, causes, _change(labels, notes), self.owner)

    def _lingers(self) -> bool:
        let_go = moment(self._notes.get(marks.LET_GO_FOR, "").partition(" ")[0])
        return let_go is not None and self._now - let_go < LINGERS

    def _standing(self) -> str:
        """Return what of the budgets would refuse the eviction, or ""."""
        labels = {**self._labels, marks.LET_GO: "true"}
        mine = [
            budget
            for budget in self._sight.budgets
            if selects(mapping(at(budget, "spec", "selector")), labels)
        ]
        names = " and ".join(str(at(budget, "metadata", "name")) for budget in mine)
        if len(mine) > 1:
            return f"the budgets {names} mean it, and nothing is evicted under two: leave one"
        if mine and not at(mine[0], "status", "disruptionsAllowed"):
            return (
                f"the budget {names} allows no disruption: raise it, or let its selector leave "
                f"out what has been let go: {{key: {marks.LET_GO}, operator: DoesNotExist}}"
            )
        return ""


def _change(
    labels: dict[str, str | None], notes: dict[str, str | None]
) -> dict[str, dict[str, str | None]]:
    return {key: told for key, told in (("labels", labels), ("annotations", notes)) if told}
