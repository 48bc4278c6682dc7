"""One candidate's way to a term, and out of it.

Which event means something in which state, and what may follow, is the table in `core.table`;
here is what is done. A handler that would leave for a state that the table does not allow is a
bug, and stops the elector before it does anything.

Rules
-----
1. **Take over only what was watched.** A take compares and swaps the snapshot in `_watch`, whose
   versions stood still for as long as `core.watch` says. Never the result of a fresh read: a watch
   that stalls would otherwise let us rob a live holder; like this the store refuses, and we start
   to count anew.
2. **An absence has no version**, so no store can tell one from another: it counts anew if anything
   was reported since the take of it was decided, or if we slept.
3. **Unknown is a state.** After a take of unknown outcome nothing is assumed: the record is read
   back and the nonce decides. A new attempt swaps the same version, so at most one can succeed.
4. **Stop, then release.** `Release` comes only after `WorkEnded`, only while the trust has not
   run out, and never if the term was lost: a lost lease is left to the observers' clocks. A term
   whose store cannot renew ends by plan, and is no lost one: it was the holder's own word when to
   stop, no renewal is under way that the release could meet, and the rest of the TTL would only
   keep everybody waiting. While it is being stopped for another reason, that reason stands.
   Who withdraws and could not release, or could not find out what came of a take, leaves that to
   others (`GiveBack`): a session goes on for as long as this process holds anything, and nobody
   could take over from it. The work has ended, or never began, and whatever is given up is named
   by the term: so that may be tried for as long as the session lasts.
5. **Work that will not stop** makes the elector `STUCK`: renewed no more, never released.
6. **For ever.** Every way out of a term leads back to `LOOKING`, unless the candidate withdrew.

Warning: `Seen` arrives late and out of order. While leading, only a serial newer than the one
that we wrote can depose us. It may also arrive before the answer to the take that it undoes, so it
is kept for then: it is not reported twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from incumbent.core import events as ev
from incumbent.core.records import Held, Holding, Snapshot
from incumbent.core.table import TABLE, State
from incumbent.core.timing import Timing
from incumbent.core.watch import Watch

__all__ = ["TABLE", "Elector", "State"]

_S = State


class Elector:
    """The state machine of one candidate in one election.

    Args:
        name: the election.
        identity: the candidate, as people and other programs see it.
        incarnation: makes the nonces of this elector unlike those of any other, even of one that
            has, against all care, the same identity.
        timing: see `core.timing`.
        attempts: how many attempts this incarnation has made at this election already, by electors
            before this one, all of whose work has ended: their leftovers are ours.
        absent_is_vacant: whether in this store a record that is not there proves that nobody
            holds; otherwise one TTL is waited out. An absence that has a TTL of its own is always
            waited out: the store knows that there was a record.
    """

    __slots__ = (
        "_again",
        "_attempt",
        "_closing",
        "_handlers",
        "_held",
        "_identity",
        "_incarnation",
        "_missed",
        "_name",
        "_noted",
        "_release_until",
        "_send_by",
        "_serial",
        "_stop_by",
        "_successor",
        "_timing",
        "_watch",
        "_why",
        "state",
        "wake_at",
    )

    def __init__(
        self,
        name: str,
        identity: str,
        incarnation: str,
        timing: Timing,
        *,
        absent_is_vacant: bool = False,
        attempts: int = 0,
    ) -> None:
        self._name = name
        self._identity = identity
        self._incarnation = incarnation
        self._timing = timing
        self._watch = Watch(identity, timing.ttl_s, absent_is_vacant=absent_is_vacant)
        self.state = State.NEW
        self.wake_at = math.inf
        self._attempt = attempts
        self._closing = False
        self._send_by = math.inf
        self._again = 0.0
        self._noted = ""
        self._missed: Snapshot | None = None
        self._held: Held | None = None
        self._serial = 0
        self._why: ev.Why | None = None
        self._successor = ""
        self._stop_by = math.inf
        self._release_until = -math.inf

    @property
    def term(self) -> str:
        """The nonce of the term held now, or ""."""
        return self._held.term if self._held else ""

    @property
    def attempts(self) -> int:
        """How many attempts this incarnation has made at this election."""
        return self._attempt

    @property
    def watched(self) -> Snapshot | None:
        """The snapshot that a take would compare with."""
        return self._watch.seen

    def take_stands(self, now: float) -> bool:
        """Tell whether the last `Take` may be sent at `now`; if not, report `TakeNotSent`.

        It may wait for one attempt's time. It may not if anything came since that speaks against
        it, nor if it is older than that: then we slept, and something may have come unheard.
        """
        return self._missed is None and not self._closing and now <= self._send_by

    def handle(self, event: ev.Event, now: float) -> list[ev.Effect]:
        """Take in one event at `now` and return what to do."""
        allowed = TABLE[self.state].get(type(event))
        if allowed is None or (isinstance(event, ev.Tick) and now < self.wake_at):
            return []
        before, self.wake_at = self.wake_at, math.inf
        after, effects = _HANDLERS[self.state, type(event)](self, event, now)
        if after not in allowed:
            raise AssertionError(f"{self.state} + {event} may not lead to {after}")
        if after is self.state and self.wake_at == math.inf and not isinstance(event, ev.Tick):
            self.wake_at = before
        self.state = after
        return effects

    # -- looking and waiting ----------------------------------------------------------------------

    def _start(self, _: ev.Start, now: float) -> _Step:
        self.wake_at = now + self._timing.attempt_s
        return State.LOOKING, [ev.Follow()]

    def _look_again(self, _: ev.LookFailed, now: float) -> _Step:
        self.wake_at = now + self._timing.retry_every_s
        return State.LOOKING, []

    def _look_now(self, _: ev.Tick, now: float) -> _Step:
        return State.LOOKING, [ev.Look()]

    def _seen(self, event: ev.Seen, now: float) -> _Step:
        if not event.fresh and self._watch.is_old(event.snapshot):
            return self._wait(now, []) if self._watch.seen is not None else (State.LOOKING, [])
        return self._consider(event.snapshot, now)

    def _consider(self, snapshot: Snapshot, now: float, *, anew: bool = False) -> _Step:
        """Start to count for `snapshot`, unless it is what is being watched already."""
        if not anew and self._watch.is_same(snapshot):
            return self._wait(now, [])
        remark = self._watch.begin(snapshot, now, own=self._is_own(snapshot.term))
        return self._wait(now, self._note_once(*remark) if remark else [])

    def _wait(self, now: float, effects: list[ev.Effect]) -> _Step:
        """Take what is watched, if its time has come."""
        take_at = max(self._watch.take_at, self._again)
        if now >= take_at:
            return self._take(now, effects)
        if self._watch.seen is None:
            raise AssertionError("waiting for nothing")
        self.wake_at = take_at
        return State.STANDBY, [*effects, ev.Waiting(self._watch.seen, take_at)]

    def _waited(self, _: ev.Tick, now: float) -> _Step:
        watched, slept = self._watch.seen, self._slept(max(self._watch.take_at, self._again), now)
        if watched is not None and watched.holding is Holding.ABSENT and slept:
            return self._consider(watched, now, anew=True)
        return self._wait(now, [])

    def _slept(self, due_at: float, now: float) -> bool:
        """Tell whether what was due to be done at `due_at` and is done now was held up for long.

        A record may have come and gone unseen then.
        """
        return now > due_at + self._timing.attempt_s

    def _evidence(self, event: ev.Evidence, now: float) -> _Step:
        if self._watch.believe_death(event.lease_key, now):
            return self._wait(now, self._note_once("evidence", event.why))
        return self._wait(now, [])

    # -- taking -----------------------------------------------------------------------------------

    def _take(self, now: float, effects: list[ev.Effect]) -> _Step:
        if self._watch.seen is None:
            raise AssertionError("taking what was not watched")
        self._attempt += 1
        self._send_by = now + self._timing.attempt_s
        self._missed = None
        term = self._nonce(self._attempt)
        return State.TAKING, [*effects, ev.Take(self._attempt, term, self._watch.seen)]

    def _take_done(self, event: ev.TakeDone, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.TAKING)
        return self._begin(event.held, event.valid_until, now)

    def _begin(self, held: Held, valid_until: float, now: float) -> _Step:
        self._held = held
        self._why = None
        self._serial = held.snapshot.serial
        self._release_until = valid_until
        self._successor = ""
        self._again = 0.0
        highest = self._watch.took(held)
        if highest is not None:
            text = (
                f"the store gave token {held.token} for {self._name!r} after {highest} "
                "had been seen: it has lost its memory, and resources would refuse us"
            )
            self._again = now + self._timing.ttl_s
            return self._release(now, [ev.Note("token-regression", text)])
        if self._missed is not None:
            overtaken = self._overtaken(held, self._missed, now)
            if overtaken is not None:
                return overtaken
        if self._closing:
            return self._release(now, [])
        if valid_until - self._timing.stop_s <= now:
            self._again = now + self._timing.retry_every_s
            text = "the confirmation came too late for any work; released"
            return self._release(now, [ev.Note("late-confirmation", text)])
        return State.LEADING, [ev.BeginTerm(held)]

    def _overtaken(self, held: Held, missed: Snapshot, now: float) -> _Step | None:
        """Give up a term whose end was reported before its beginning was; None if it was not."""
        if missed.serial <= held.snapshot.serial:
            return None
        if missed.holding is not Holding.HELD or missed.term != held.term:
            text = f"the record changed before the confirmation came: {missed.describe()}"
            return self._after_term(now, [ev.EndKeepalive(), ev.Note("overtaken", text)])
        self._serial = missed.serial
        if missed.request is None or missed.request.term != held.term:
            return None
        self._why, self._successor = ev.Why.STEP_DOWN, missed.request.to
        return self._release(now, [])

    def _seen_meanwhile(self, event: ev.Seen, now: float) -> _Step:
        if self._missed is None or event.snapshot.serial >= self._missed.serial:
            self._missed = event.snapshot
        return self._stay(self.state)

    def _take_refused(self, event: ev.TakeRefused, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.TAKING)
        watched = self._watch.seen
        if watched is not None and event.snapshot.watched == watched.watched:
            self._again = now + self._timing.retry_every_s
        return self._not_taken(event.snapshot, now)

    def _take_failed(self, event: ev.TakeFailed, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.TAKING)
        self._again = now + self._timing.retry_every_s
        return self._not_taken(None, now, self._note_once("take-failed", event.cause))

    def _take_not_sent(self, event: ev.TakeNotSent, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.TAKING)
        return self._not_taken(None, now)

    def _not_taken(
        self, found: Snapshot | None, now: float, notes: list[ev.Effect] | None = None
    ) -> _Step:
        """Go on after a take that did not happen, with what was found by reading, if it was read.

        Else with what was seen meanwhile, if anything was.
        """
        if self._closing:
            return self._closed()
        watched, missed = self._watch.seen, self._missed
        if watched is None:
            raise AssertionError("taking what was not watched")
        if missed is not None and self._watch.is_old(missed):
            missed = None
        newest = found or missed or watched
        changed = missed is not None and missed.serial > watched.serial
        if newest.holding is Holding.ABSENT:
            anew = changed or self._slept(self._send_by, now)
        else:
            anew = changed and found is None
        state, effects = self._consider(newest, now, anew=anew)
        return state, [*(notes or []), *effects]

    def _in_doubt(self, _: ev.TakeUnknown | ev.Tick, now: float) -> _Step:
        # A reply for an older attempt cannot be "unknown": the driver reports each attempt once.
        return State.DOUBT, [ev.ReadBack(self._attempt, self._nonce(self._attempt))]

    def _read_back(self, event: ev.ReadBackDone, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.DOUBT)
        if event.held is not None:
            return self._begin(event.held, event.valid_until, now)
        return self._not_taken(event.snapshot, now)

    def _read_back_failed(self, event: ev.ReadBackFailed, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.DOUBT)
        if self._closing:
            return self._closed([ev.GiveBack(self._nonce(self._attempt))])
        self.wake_at = now + self._timing.retry_every_s
        return State.DOUBT, []

    def _close_soon(self, _: ev.Close, now: float) -> _Step:
        self._closing = True
        return self.state, []

    # -- leading ----------------------------------------------------------------------------------

    def _seen_leading(self, event: ev.Seen, now: float) -> _Step:
        snapshot = event.snapshot
        if snapshot.serial <= self._serial and snapshot.serial:
            return self.state, []
        if snapshot.holding is Holding.HELD and snapshot.term == self.term:
            self._serial = snapshot.serial
            request = snapshot.request
            if request is not None and request.term == self.term and self.state is State.LEADING:
                self._successor = request.to
                return self._stop(ev.Why.STEP_DOWN, "asked to step down", now, [])
            return self.state, []
        cause = f"the record changed under us: {snapshot.describe()}"
        return self._depose(cause, now)

    def _depose(self, cause: str, now: float) -> _Step:
        if self.state is State.STUCK:
            # The work goes on and its renewals have ended; but it may still ask whether to trust.
            return State.STUCK, [ev.VoidTerm(cause)]
        effects: list[ev.Effect] = [ev.VoidTerm(cause), ev.EndKeepalive()]
        if self.state is State.STOPPING:
            self._why = ev.Why.DEPOSED
            return State.STOPPING, effects
        return self._stop(ev.Why.DEPOSED, cause, now, effects)

    def _lease_failing(self, event: ev.LeaseFailing, now: float) -> _Step:
        if self.state is State.STOPPING:
            self._why = ev.Why.LOST
            return State.STOPPING, []
        return self._stop(ev.Why.LOST, event.cause, now, [])

    def _lease_expiring(self, event: ev.LeaseExpiring, now: float) -> _Step:
        return self._stop(ev.Why.EXPIRED, event.cause, now, [])

    def _lease_revoked(self, event: ev.LeaseRevoked, now: float) -> _Step:
        return self._depose(event.cause, now)

    def _step_down(self, event: ev.StepDown, now: float) -> _Step:
        self._successor = event.to
        return self._stop(ev.Why.STEP_DOWN, event.cause, now, [])

    def _close_leading(self, _: ev.Close, now: float) -> _Step:
        self._closing = True
        return self._stop(ev.Why.CLOSED, "the candidate withdraws", now, [])

    def _stop(self, why: ev.Why, cause: str, now: float, effects: list[ev.Effect]) -> _Step:
        self._why = why
        self._stop_by = now + self._timing.stop_s
        self.wake_at = self._stop_by
        return State.STOPPING, [*effects, ev.StopWork(why, cause, self._stop_by)]

    def _stop_late(self, _: ev.Tick, now: float) -> _Step:
        if now < self._stop_by:
            self.wake_at = self._stop_by
            return State.STOPPING, []
        cause = f"the work was asked to stop and did not within {self._timing.stop_s:g} s"
        return State.STUCK, [ev.EndKeepalive(), ev.Stuck(cause)]

    def _finished(self, event: ev.WorkEnded, now: float) -> _Step:
        self._why = ev.Why.FINISHED
        return self._stopped(event, now)

    def _stopped(self, event: ev.WorkEnded, now: float) -> _Step:
        self._release_until = event.valid_until
        if self._why is not None and self._why.planned:
            return self._release(now, [])
        return self._after_term(now, [ev.EndKeepalive()])

    def _unstuck(self, _: ev.WorkEnded, now: float) -> _Step:
        return self._after_term(now, [])

    # -- giving up --------------------------------------------------------------------------------

    def _release(self, now: float, effects: list[ev.Effect]) -> _Step:
        if self._why is ev.Why.STEP_DOWN:
            self._watch.leave_to_others(now)
        effects = [*effects, ev.EndKeepalive()]
        if now >= self._release_until:
            return self._after_term(now, [*effects, ev.Note("release-late", "left to expire")])
        return self._send_release(effects)

    def _send_release(self, effects: list[ev.Effect]) -> _Step:
        self._attempt += 1
        release = ev.Release(self._attempt, self.term, self._successor)
        return State.RELEASING, [*effects, release]

    def _release_done(self, event: ev.ReleaseDone, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.RELEASING)
        return self._after_term(now, [], event.snapshot)

    def _release_failed(self, event: ev.ReleaseFailed, now: float) -> _Step:
        if event.attempt != self._attempt:
            return self._stay(State.RELEASING)
        self.wake_at = now + self._timing.retry_every_s
        if self.wake_at >= self._release_until:
            return self._unreleased(now, f"left to expire: {event.cause}")
        return State.RELEASING, []

    def _release_again(self, _: ev.Tick, now: float) -> _Step:
        late = now >= self._release_until
        return self._unreleased(now, "left to expire") if late else self._send_release([])

    def _unreleased(self, now: float, text: str) -> _Step:
        """Go on with what could not be released: as our own leftover, if we stay."""
        gives: list[ev.Effect] = [ev.GiveBack(self.term)] * self._closing
        return self._after_term(now, [ev.Note("release-failed", text), *gives])

    def _after_term(
        self, now: float, effects: list[ev.Effect], snapshot: Snapshot | None = None
    ) -> _Step:
        self._held = None
        self._watch.end()
        self.wake_at = math.inf
        if self._closing:
            return self._closed(effects)
        if snapshot is not None:
            state, more = self._consider(snapshot, now)
            return state, [*effects, *more]
        return State.LOOKING, [*effects, ev.Look()]

    def _close(self, _: ev.Close, now: float) -> _Step:
        self._closing = True
        return self._closed()

    def _closed(self, effects: list[ev.Effect] | None = None) -> _Step:
        return State.CLOSED, [*(effects or []), ev.Unfollow(), ev.Closed()]

    # -- helpers ----------------------------------------------------------------------------------

    def _stay(self, state: State) -> _Step:
        return state, []

    def _nonce(self, attempt: int) -> str:
        return f"{self._identity}/{self._incarnation}.{attempt}"

    def _is_own(self, term: str) -> bool:
        head, _, tail = term.rpartition(".")
        ours = head == f"{self._identity}/{self._incarnation}"
        return ours and tail.isdecimal() and 0 < int(tail) <= self._attempt

    def _note_once(self, code: str, text: str) -> list[ev.Effect]:
        """Report a condition when it appears, not each time that it is met again."""
        if self._noted == code + text:
            return []
        self._noted = code + text
        return [ev.Note(code, text)]


_Step = tuple[State, list[ev.Effect]]
_Handler = Callable[[Elector, Any, float], _Step]


_HANDLERS: dict[tuple[State, type[Any]], _Handler] = {
    (_S.NEW, ev.Start): Elector._start,
    (_S.NEW, ev.Close): Elector._close,
    (_S.LOOKING, ev.Seen): Elector._seen,
    (_S.LOOKING, ev.LookFailed): Elector._look_again,
    (_S.LOOKING, ev.Tick): Elector._look_now,
    (_S.LOOKING, ev.Close): Elector._close,
    (_S.STANDBY, ev.Seen): Elector._seen,
    (_S.STANDBY, ev.Evidence): Elector._evidence,
    (_S.STANDBY, ev.Tick): Elector._waited,
    (_S.STANDBY, ev.Close): Elector._close,
    (_S.TAKING, ev.Seen): Elector._seen_meanwhile,
    (_S.TAKING, ev.TakeDone): Elector._take_done,
    (_S.TAKING, ev.TakeRefused): Elector._take_refused,
    (_S.TAKING, ev.TakeFailed): Elector._take_failed,
    (_S.TAKING, ev.TakeNotSent): Elector._take_not_sent,
    (_S.TAKING, ev.TakeUnknown): Elector._in_doubt,
    (_S.TAKING, ev.Close): Elector._close_soon,
    (_S.DOUBT, ev.Seen): Elector._seen_meanwhile,
    (_S.DOUBT, ev.ReadBackDone): Elector._read_back,
    (_S.DOUBT, ev.ReadBackFailed): Elector._read_back_failed,
    (_S.DOUBT, ev.Tick): Elector._in_doubt,
    (_S.DOUBT, ev.Close): Elector._close_soon,
    (_S.LEADING, ev.Seen): Elector._seen_leading,
    (_S.LEADING, ev.LeaseExpiring): Elector._lease_expiring,
    (_S.LEADING, ev.LeaseFailing): Elector._lease_failing,
    (_S.LEADING, ev.LeaseRevoked): Elector._lease_revoked,
    (_S.LEADING, ev.StepDown): Elector._step_down,
    (_S.LEADING, ev.WorkEnded): Elector._finished,
    (_S.LEADING, ev.Close): Elector._close_leading,
    (_S.STOPPING, ev.Seen): Elector._seen_leading,
    (_S.STOPPING, ev.LeaseFailing): Elector._lease_failing,
    (_S.STOPPING, ev.LeaseRevoked): Elector._lease_revoked,
    (_S.STOPPING, ev.WorkEnded): Elector._stopped,
    (_S.STOPPING, ev.Tick): Elector._stop_late,
    (_S.STOPPING, ev.Close): Elector._close_soon,
    (_S.STUCK, ev.Seen): Elector._seen_leading,
    (_S.STUCK, ev.LeaseRevoked): Elector._lease_revoked,
    (_S.STUCK, ev.WorkEnded): Elector._unstuck,
    (_S.STUCK, ev.Close): Elector._close_soon,
    (_S.RELEASING, ev.ReleaseDone): Elector._release_done,
    (_S.RELEASING, ev.ReleaseFailed): Elector._release_failed,
    (_S.RELEASING, ev.Tick): Elector._release_again,
    (_S.RELEASING, ev.Close): Elector._close_soon,
}
