"""Mistakes made on purpose, each of which a test has to find.

A mutant is a small edit of the production sources; `hunt` applies it and has it looked for. Those
of single stores are in `tests.stores.planted`, `planted_locks` and `planted_queues`, and those of
fencing in `tests.fencing.planted`. An edit whose text is not in the source any more (the code has
moved on) is an error: bring the mutant along with the code.

Most are found by the simulator. Where that says "test", the simulator cannot see the mistake, since
another line of defence makes up for it, and a test of that very rule finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Edit", "Mutant", "planted"]

ELECTOR = "incumbent.core.elector"
EVENTS = "incumbent.core.events"
FENCE = "incumbent.core.fence"
KEEPALIVE = "incumbent.core.keepalive"
TIMING = "incumbent.core.timing"
WATCH = "incumbent.core.watch"
DRIVER = "incumbent.runtime.driver"
HUB = "incumbent.runtime.hub"
LEASE = "incumbent.runtime.lease"
WATCHDOG = "incumbent.runtime.watchdog"
MEMORY = "incumbent.stores.memory"
LEASES = "incumbent.stores.kubernetes.store"
SESSION_KEYS = "incumbent.stores.kubernetes.sessions.driver"
SESSION_WATCH = "incumbent.stores.kubernetes.sessions.watch"
SESSION_WIRE = "incumbent.stores.kubernetes.sessions.wire"
LOCAL = "incumbent.stores.local.store"
TABLES = "incumbent.stores.sqlite.tables"
KV = "incumbent.stores.kv.store"
KV_MEANING = "incumbent.stores.kv.meaning"
KV_MEMORY = "incumbent.stores.kv.memory"
LOCKS = "incumbent.stores.local.locks"
SQL = "incumbent.stores.sql.statements"
SQL_ROWS = "incumbent.stores.sql.rows"
SQL_BASE = "incumbent.stores.sql.base"
SQL_STORE = "incumbent.stores.sql.store"
FILES = "incumbent.stores.file.records"
FILE_STORE = "incumbent.stores.file.store"

_UNRENEWED = "tests/runtime/test_unrenewed.py::test_"


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one module; `old` occurs exactly once there."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        name: what is wrong then.
        edits: how to make it.
        test: the test that finds it; "" for the simulator.
        store: the store that the simulator finds it with.
    """

    name: str
    edits: tuple[Edit, ...]
    test: str = ""
    store: str = "memory"


def planted(name: str, *edit: str, test: str = "", store: str = "memory") -> Mutant:
    """Return a mutant; of each edit there are the module, the old text and the new one."""
    edits = tuple(Edit(*edit[index : index + 3]) for index in range(0, len(edit), 3))
    return Mutant(name, edits, test, store)


MUTANTS = (
    # -- how long a term is trusted
    planted(
        "trust counted from the answer",
        LEASE,
        "            machine.confirmed(effect.attempt)\n",
        "            machine._sent_at = self._clock()\n"
        "            machine.confirmed(effect.attempt)\n",
    ),
    planted(
        "trusted for the whole TTL",
        TIMING,
        "    return ttl_s * (1 - rho) / (1 + rho) - margin_s\n",
        "    return ttl_s\n",
    ),
    planted(
        "clock rates forgotten",
        TIMING,
        "    return ttl_s * (1 - rho) / (1 + rho) - margin_s\n",
        "    return ttl_s - margin_s\n",
    ),
    planted(
        "clock rates of one side forgotten",
        TIMING,
        "    return ttl_s * (1 - rho) / (1 + rho) - margin_s\n",
        "    return ttl_s * (1 - rho) - margin_s\n",
    ),
    planted(
        "no margin",
        TIMING,
        "    return ttl_s * (1 - rho) / (1 + rho) - margin_s\n",
        "    return ttl_s * (1 - rho) / (1 + rho)\n",
        test="tests/core/test_timing.py::test_accepted_settings_hold_at_their_worst",
    ),
    planted(
        "the stop is not part of the trust",
        KEEPALIVE,
        "        return self.trust.valid_until - self._timing.stop_s\n",
        "        return self.trust.valid_until\n",
    ),
    planted(
        "wall clock",
        HUB,
        "        self.clock = clock\n",
        "        self.clock = lambda: clock.__self__.wall() - 1.7e9\n",
    ),
    planted(
        "a void trust can be revived",
        FENCE,
        "        if not self._voided:\n            self.valid_until = max",
        "        if self is not None:\n            self.valid_until = max",
        test="tests/core/test_fence.py::test_nothing_revives_a_void_trust",
    ),
    planted(
        "a late answer counts",
        KEEPALIVE,
        "        return self.state is Pulse.RENEWING and attempt == self._attempt\n",
        "        return True\n",
        test="tests/core/test_keepalive.py::test_the_answer_of_an_older_attempt_counts_for_nothing",
    ),
    planted(
        "renewed on after the stop began",
        KEEPALIVE,
        "            self.state = Pulse.ENDED\n            return Failing(self._cause) if",
        "            self._due = now\n            return Failing(self._cause) if",
    ),
    planted(
        "renewed in a store that cannot renew",
        LEASE,
        "            renews=store.capabilities.renews,\n",
        "",
        test=f"{_UNRENEWED}nothing_is_renewed_and_the_work_is_told_in_time",
    ),
    planted(
        "a term that ends by plan is told when its trust is over",
        KEEPALIVE,
        "        return self.trust.valid_until - self._timing.stop_s\n",
        "        stop_s = self._timing.stop_s if self._renews else 0.0\n"
        "        return self.trust.valid_until - stop_s\n",
        test=f"{_UNRENEWED}nothing_is_renewed_and_the_work_is_told_in_time",
    ),
    planted(
        "a term that ends by plan is released before its work has ended",
        ELECTOR,
        "        return self._stop(ev.Why.EXPIRED, event.cause, now, [])\n",
        "        _, release = self._send_release([])\n"
        "        return self._stop(ev.Why.EXPIRED, event.cause, now, release)\n",
        test=f"{_UNRENEWED}it_is_released_when_the_work_has_ended_and_not_before",
    ),
    planted(
        "a lost term is released, as one that ends by plan is",
        EVENTS,
        "        return self in (Why.STEP_DOWN, Why.CLOSED, Why.FINISHED, Why.EXPIRED)\n",
        "        return self is not Why.DEPOSED\n",
        test="tests/core/test_transcripts.py::test_the_dialogue_is_as_it_was[lost]",
    ),
    planted(
        "a term begins with too little trust left",
        ELECTOR,
        "        if valid_until - self._timing.stop_s <= now:\n",
        "        if valid_until == math.inf:\n",
    ),
    # -- taking
    planted(
        "takeover on a fresh read, whatever was watched",
        DRIVER,
        "held = await self._store.take(self.name, self._claim, effect.over)",
        "held = await self._store.take(\n"
        "                    self.name, self._claim, await self._store.read(self.name)\n"
        "                )",
    ),
    planted(
        "take compares the record only, and not its lease",
        MEMORY,
        "        if now.watched != over.watched:\n",
        "        if now.version != over.version:\n",
    ),
    planted(
        "the wait is counted from the first sight of the term",
        WATCH,
        "        self.seen = snapshot\n        self.take_at = now + wait_s\n",
        "        seen = self.seen\n"
        "        same = seen is not None and seen.term == snapshot.term and snapshot.ttl_s > 0\n"
        "        self.seen = snapshot\n"
        "        self.take_at = min(now + wait_s, self.take_at if same else math.inf)\n",
    ),
    planted(
        "an observer waits its own TTL",
        WATCH,
        "                return snapshot.ttl_s, None\n",
        "                return ttl_s, None\n",
    ),
    planted(
        "a vanished record is taken at once",
        WATCH,
        "if self._absent_is_vacant and not self._high_serial and not snapshot.ttl_s:\n",
        "if ttl_s:\n",
    ),
    planted(
        "a newcomer takes at once what was deleted under a holder",
        WATCH,
        " and not self._high_serial and not snapshot.ttl_s:\n",
        " and not self._high_serial:\n",
        test="tests/core/test_elector.py",
    ),
    planted(
        "what was seen during the take is forgotten",
        ELECTOR,
        "        if self._missed is not None:\n            overtaken",
        "        if self._missed is not None and not self._attempt:\n            overtaken",
        test="tests/core/test_transcripts.py::test_the_dialogue_is_as_it_was",
    ),
    planted(
        "ownership by name",
        ELECTOR,
        '        ours = head == f"{self._identity}/{self._incarnation}"\n',
        '        ours = head.startswith(f"{self._identity}/")\n        tail = "1"\n',
    ),
    planted(
        "evidence of any death will do",
        WATCH,
        "            or seen.lease_key != lease_key\n",
        "",
    ),
    planted(
        "evidence counts also for a record that went back",
        WATCH,
        "            or self._doubtful\n",
        "",
        test="tests/core/test_transcripts.py::test_the_dialogue_is_as_it_was",
    ),
    planted(
        "every attempt has the same nonce",
        ELECTOR,
        '        return f"{self._identity}/{self._incarnation}.{attempt}"\n',
        '        return f"{self._identity}/{self._incarnation}.1"\n',
    ),
    planted(
        "all that are due are taken at once",
        DRIVER,
        "            async with self._hub.turns.mine(self._timing.attempt_s):\n                if",
        "            if True:\n                if",
        test="tests/runtime/test_turns.py"
        "::test_so_many_take_at_once_and_a_renewal_or_release_waits_for_none_of_them",
    ),
    planted(
        "a take is sent though the record has changed before its turn",
        ELECTOR,
        "        return self._missed is None and not self._closing and",
        "        return not self._closing and",
        test="tests/runtime/test_turns.py"
        "::test_nobody_takes_over_an_absence_in_which_a_record_came_and_went_before_its_turn",
    ),
    planted(
        "a take is sent though its candidate has withdrawn before its turn",
        ELECTOR,
        "        return self._missed is None and not self._closing and",
        "        return self._missed is None and",
        test="tests/runtime/test_turns.py::test_who_withdraws_before_his_turn_sends_nothing",
    ),
    planted(
        "a take is sent though we slept before its turn",
        ELECTOR,
        " and now <= self._send_by\n",
        "\n",
        test="tests/runtime/test_turns.py"
        "::test_nobody_takes_over_an_absence_that_he_slept_through_before_his_turn",
    ),
    planted(
        "a take is sent though the record has changed while its session was opened",
        DRIVER,
        "        if not self._take_stands():  #",
        "        if False:  #",
        test="tests/runtime/test_turns.py::test_nobody_takes_over_an_absence"
        "_in_which_a_record_came_and_went_beside_a_new_session",
    ),
    planted(
        "a take that was held back is sent though it stands no longer",
        DRIVER,
        "                if self._take_stands():\n",
        "                if self.hold_back is not None or self._take_stands():\n",
        DRIVER,
        "        if not self._take_stands():  #",
        "        if self.hold_back is None and not self._take_stands():  #",
        test="tests/runtime/test_hold_back.py"
        "::test_nobody_takes_over_an_absence_in_which_a_record_came_and_went_while_held_back",
    ),
    planted(
        "a take that must not be sent is sent when it was held back for long enough",
        DRIVER,
        "not await self.hold_back(self._take_stands):\n",
        "await self.hold_back(self._take_stands) is None:\n",
        test="tests/runtime/test_hold_back.py::test_what_is_refused_is_decided_anew",
    ),
    planted(
        "an absence counts in which a record came and went during the take",
        ELECTOR,
        "            anew = changed or self._slept",
        "            anew = self._slept",
        test="tests/core/test_elector.py"
        "::test_a_record_that_came_and_went_during_a_take_is_waited_out",
    ),
    planted(
        "an absence that we slept through before a turn counts",
        ELECTOR,
        "            anew = changed or self._slept(self._send_by, now)\n",
        "            anew = changed\n",
        test="tests/runtime/test_turns.py"
        "::test_nobody_takes_over_an_absence_that_he_slept_through_before_his_turn",
    ),
    planted(
        "unknown is taken for success",
        DRIVER,
        "            return ev.TakeUnknown(attempt, _say(error, timing))\n",
        "            held = Held(self.name, effect.term, None, keeper.lease, effect.over)\n"
        "            return ev.TakeDone(attempt, held, self._keep(held))\n",
    ),
    planted(
        "unknown is taken for failure",
        DRIVER,
        "            return ev.TakeUnknown(attempt, _say(error, timing))\n",
        "            return ev.TakeFailed(attempt, _say(error, timing))\n",
        test="tests/simulator/test_edges.py::test_an_unanswered_take_is_read_back",
    ),
    planted(
        "token kept by the same holder",
        MEMORY,
        "        record.token = record.serial\n",
        "        record.token = record.token or record.serial\n",
    ),
    planted(
        "the session of the deposed is not voided",
        MEMORY,
        "            shelf.sessions.pop(over.lease_key, None)\n",
        "            pass\n",
    ),
    # -- stopping and giving up
    planted(
        "release before the stop",
        ELECTOR,
        "        return State.STOPPING, [*effects, ev.StopWork(why, cause, self._stop_by)]\n",
        "        stop = ev.StopWork(why, cause, self._stop_by)\n"
        "        if not why.planned:\n"
        "            return State.STOPPING, [*effects, stop]\n"
        '        release = ev.Release(self._attempt, self.term, "")\n'
        "        return State.STOPPING, [*effects, stop, ev.EndKeepalive(), release]\n",
    ),
    planted(
        "release after a loss",
        ELECTOR,
        "        if self._why is not None and self._why.planned:\n",
        "        if self._why is not None:\n",
    ),
    planted(
        "release whatever term there is",
        MEMORY,
        "        if record is not None and record.term == held.term and record.session:\n",
        "        if record is not None and record.session:\n",
    ),
    planted(
        "a deposed term stays valid",
        ELECTOR,
        "        effects: list[ev.Effect] = [ev.VoidTerm(cause), ev.EndKeepalive()]\n",
        "        effects: list[ev.Effect] = [ev.EndKeepalive()]\n",
    ),
    planted(
        "stuck work is renewed",
        ELECTOR,
        "        return State.STUCK, [ev.EndKeepalive(), ev.Stuck(cause)]\n",
        "        return State.STUCK, [ev.Stuck(cause)]\n",
        DRIVER,
        "            self._leaving.end()\n",
        "            pass\n",
    ),
    planted(
        "a session is closed under work that is being stopped",
        HUB,
        "        if not keeper.members and keeper not in self._works:\n",
        "        if not keeper.members:\n",
    ),
    planted(
        "a session is closed while a take under it is in flight",
        HUB,
        '            keeper.revoke("the session is being closed")\n',
        "",
        test="tests/simulator/test_edges.py::test_a_session_that_is_closed_is_trusted_no_more",
    ),
    planted(
        "what could not be released is left to a session that goes on",
        ELECTOR,
        "[ev.GiveBack(self.term)] * self._closing",
        "[]",
        test="tests/runtime/test_shared_sessions.py::"
        "test_what_could_not_be_given_up_is_as_soon_as_the_store_answers[released]",
    ),
    planted(
        "what may have been taken is left to a session that goes on",
        ELECTOR,
        "            return self._closed([ev.GiveBack(self._nonce(self._attempt))])\n",
        "            return self._closed()\n",
        test="tests/runtime/test_shared_sessions.py::"
        "test_what_could_not_be_given_up_is_as_soon_as_the_store_answers[in-doubt]",
    ),
    planted(
        "a leftover is taken at the cost of another election's work",
        DRIVER,
        "        keeper = self._hub.working(theirs)\n        try:\n",
        "        keeper = None\n        try:\n",
        DRIVER,
        "        working = self._hub.working(theirs)  #",
        "        working = None  #",
    ),
    planted(
        "work that began while a session was opened is overlooked",
        DRIVER,
        "        working = self._hub.working(theirs)  #",
        "        working = None  #",
        test="tests/runtime/test_shared_sessions.py::"
        "test_work_that_begins_while_a_session_is_opened_keeps_its_own",
    ),
    planted(
        "SQL: a renewal counts before what it holds was looked at",
        SQL_STORE,
        "            if not await self._look(self._sinks, urgent=True):\n",
        "            self._want(self._sinks)\n            if False:\n",
        test="tests/stores/test_sql_rules.py::"
        "test_a_renewal_counts_when_what_it_holds_was_looked_at",
    ),
    planted(
        "a session is voided while a take under it is in flight",
        DRIVER,
        "            self._hub.give_up(theirs)\n",
        "            pass\n",
        test="tests/runtime/test_shared_sessions.py::"
        "test_no_term_begins_under_a_session_that_we_voided",
    ),
    planted(
        "a lease that has ended stays trusted when its session is closed",
        KEEPALIVE,
        "        self.trust.void()\n"
        "        if self.state is Pulse.ENDED:\n"
        "            return None\n",
        "        if self.state is Pulse.ENDED:\n"
        "            return None\n"
        "        self.trust.void()\n",
        test="tests/runtime/test_shared_sessions.py::"
        "test_nor_under_one_that_had_ended_before_it_was_closed",
    ),
    planted(
        "who joins a lease that has ended is not told",
        LEASE,
        "        if self._machine.state is Pulse.ENDED:\n",
        "        if False:\n",
        test="tests/runtime/test_shared_sessions.py::"
        "test_a_term_that_begins_under_a_lease_that_has_ended_is_told_to_stop",
    ),
    # -- the kernel's timer
    planted(
        "the timer is not moved on by renewals",
        HUB,
        "            watchdog.update()\n",
        "            pass\n",
    ),
    planted(
        "the timer is late",
        WATCHDOG,
        "            self._timer.arm(deadline, message)\n",
        "            self._timer.arm(deadline + 0.5, message)\n",
    ),
    planted(
        "the timer is disarmed when the stop begins",
        DRIVER,
        "        self._end(term, cause)\n        self._listener.stop(",
        "        if self._watchdog is not None:\n"
        "            self._watchdog.relieve(term)\n"
        "        self._end(term, cause)\n        self._listener.stop(",
    ),
    planted(
        "the timer forgets all terms with one nonce",
        DRIVER,
        "            self._watchdog.relieve(term)\n            self._hub",
        "            for other in list(self._watchdog._trusts):\n"
        "                if other.id == term.id:\n"
        "                    self._watchdog.relieve(other)\n"
        "            self._hub",
    ),
    planted(
        "a late deposition prolongs the deadline",
        WATCHDOG,
        "            deadline = min(deadline, self._leases[id(trust)].until)\n",
        "            pass\n",
    ),
    planted(
        "deposed while stopping, and trusted with the session",
        DRIVER,
        "            if self._watchdog is not None and self._stop_by != math.inf:\n",
        "            if self._watchdog is not None and self._stop_by < 0:\n",
    ),
    # -- Leases
    planted(
        "Leases: a take replaces whatever is there",
        LEASES,
        "            if obj is None or snapshot.version != over.version:\n",
        "            if obj is None:\n",
        LEASES,
        "            if found.watched != over.watched or _version(obj) == sent_at:\n",
        "            if obj is None or _version(obj) == sent_at:\n",
        store="kubernetes",
    ),
    planted(
        "Leases: a renewal adopts another's term",
        LEASES,
        "                if obj is None or snapshot.term != term:\n",
        "                if obj is None:\n",
        store="kubernetes",
    ),
    planted(
        "Leases: the token is the number of transitions",
        LEASES,
        "        token = wire.version(obj)\n",
        '        token = obj["spec"]["leaseTransitions"] + 1\n',
        store="kubernetes",
    ),
    # -- Leases under a session: void, then take
    planted(
        "Leases under a session: the record is taken before the session is voided",
        KV,
        "        writes[record] = wire.encode(wire.taken(claim, own))\n",
        "        writes = {record: wire.encode(wire.taken(claim, own)), **writes}\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: the session of the deposed is not voided",
        SESSION_KEYS,
        "urgent=urgent)\n            for key in writes\n",
        "urgent=urgent)\n            for key in list(writes)[-1:]\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: a session is voided at whatever version it has",
        SESSION_KEYS,
        "else await self._base(key, name, wanted, urgent=urgent)\n",
        "else await (\n"
        '            self._api.get(name) if key.startswith("sessions/")\n'
        "            else self._base(key, name, wanted, urgent=urgent)\n"
        "        )\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: a record is taken at whatever version it has",
        SESSION_KEYS,
        "else await self._base(key, name, wanted, urgent=urgent)\n",
        "else await (\n"
        '            self._api.get(name) if key.startswith("elections/")\n'
        "            else self._base(key, name, wanted, urgent=urgent)\n"
        "        )\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: a void session is a session",
        SESSION_WIRE,
        "    return session if holder else kv.voided(session)\n",
        "    return session\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_it_is_a_store[a_session_ends_everything_held_under_it]",
    ),
    planted(
        "Leases under a session: trust counted from the take, whatever became of the session",
        DRIVER,
        "        if self._keeper is None or not self._store.capabilities.sessions:\n",
        "        if self._keeper is not None or not self._store.capabilities.sessions:\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: a take under a session that others voided",
        SESSION_KEYS,
        "        if self._ledger.object_at(wire.lease_name(key), wanted) is not None:\n",
        "        if wanted is not ABSENT:\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_a_take_under_a_session_that_others_voided_is_spared",
    ),
    planted(
        "Leases under a session: gone when it was watched, and so gone when it is taken from",
        SESSION_KEYS,
        "        if self._ledger.object_at(wire.lease_name(key), wanted) is not None:\n",
        "        if wanted is ABSENT:\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_a_session_that_is_there_again_is_not_taken_for_gone",
    ),
    planted(
        "Leases under a session: a renewal counts before the watch has brought it",
        SESSION_KEYS,
        "            if self._is_renewal(entry, conditions[entry.key]):\n",
        "            if entry is None:\n",
        store="kubernetes-session",
    ),
    planted(
        "Leases under a session: one's own session is known by its name",
        SESSION_KEYS,
        '        if self._made.get(key) not in (None, metadata.get("uid")):\n',
        "        if not metadata:\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_the_owner_of_a_session_does_not_take_a_copy_for_it",
    ),
    planted(
        "Leases under a session: a renewal counts though a record without its label was not read",
        SESSION_WATCH,
        "        for key in self._unlabelled:\n            # The",
        "        for key in ():\n            # The",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_a_renewal_counts_when_a_record_without_its_label_was_read",
    ),
    planted(
        "Leases under a session: what the watch shows as deleted is gone",
        SESSION_WATCH,
        "                self._seek(key, gap=key not in self._reported)\n",
        "                self._absent(key, leases.version(change.object), gap=False)\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_a_session_without_its_label_is_not_gone",
    ),
    planted(
        "Leases under a session: what another kind of elector holds is vacant",
        SESSION_WIRE,
        "    if told.holding is Holding.HELD:\n",
        "    if told.holding is None:\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_the_two_modes_leave_each_other_alone_and_hand_over_by_a_release",
    ),
    planted(
        "Leases under a session: the other mode understands the record",
        SESSION_WIRE,
        'FORMAT_TEXT = f"session-{FORMAT}"\n',
        'FORMAT_TEXT = f"{FORMAT}"\n',
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_the_two_modes_leave_each_other_alone_and_hand_over_by_a_release",
    ),
    planted(
        "Leases under a session: to client-go the record is one that is renewed",
        SESSION_WIRE,
        '    return _marked(written, ELECTION, notes, {"leaseDurationSeconds": FOR_EVER_S})\n',
        "    return _marked(written, ELECTION, notes, {})\n",
        test="tests/stores/test_kubernetes_sessions.py"
        "::test_client_go_stays_out_while_a_session_holds_and_follows_a_release",
    ),
    # -- the embedded store
    planted(
        "SQLite: a take replaces whatever is there",
        TABLES,
        "            if now.watched != over.watched or now.holding is not over.holding:\n",
        "            if now.holding is not over.holding:\n",
        store="sqlite",
    ),
    planted(
        "SQLite: a take compares the row only, and not its session",
        TABLES,
        "            if now.watched != over.watched or now.holding is not over.holding:\n",
        "            if now.version != over.version:\n",
        store="sqlite",
    ),
    planted(
        "SQLite: the session of the deposed is not voided",
        TABLES,
        "            if over.lease_key and over.lease_key != session:\n",
        "            if over.lease_key == session:\n",
        store="sqlite",
    ),
    planted(
        "SQLite: a renewal revives a session that is over",
        TABLES,
        "SET beat = beat + 1, serial = ? WHERE key = ? AND beat <> ? ",
        "SET beat = abs(beat) + 1, serial = ? WHERE key = ? AND 0 <> ? ",
        store="sqlite",
    ),
    planted(
        "SQLite: a term begins under a session that is over",
        TABLES,
        "            if not self._alive(session):\n",
        "            if not session:\n",
        test="tests/stores/test_sqlite.py::test_it_is_a_store[a_session_ends_everything_held_under_it]",
        store="sqlite",
    ),
    planted(
        "SQLite: release whatever term there is",
        TABLES,
        "\"request_to = '', serial = ? WHERE name = ? AND term = ? AND session <> ''\"",
        "\"request_to = '', serial = ? WHERE name = ? AND '' <> ? AND session <> ''\"",
        store="sqlite",
    ),
    planted(
        "SQLite: the token of a new database starts at one",
        TABLES,
        "                start = int(self._wall() * 1000)",
        "                start = 0",
        store="sqlite",
    ),
    planted(
        "SQLite: renewals of others are no change",
        TABLES,
        'OR e.session IN (SELECT key FROM session WHERE serial > ? AND opener <> ?)"',
        'OR e.session IN (SELECT key FROM session WHERE serial > ? AND opener = ?)"',
        store="sqlite",
    ),
    planted(
        "SQLite: evidence of one session is told of all elections",
        LOCAL,
        "        names = self._names_of.get(key)\n",
        "        names = set(self._lease_of)\n",
        LOCAL,
        "                    sink(Evidence(key, why))\n",
        "                    sink(Evidence(self._lease_of.get(name, key), why))\n",
        store="sqlite",
    ),
    planted(
        "whoever is stuck is not deposed",
        ELECTOR,
        "            return State.STUCK, [ev.VoidTerm(cause)]\n",
        "            return State.STUCK, []\n",
        test="tests/core/test_transcripts.py",
    ),
    planted(
        "SQLite: that a row was deleted is missed by the holder who never read it",
        LOCAL,
        "        if held.name in self._followers:\n",
        "        if not held.name:\n",
        test="tests/stores/test_local.py"
        "::test_a_record_that_is_deleted_before_its_holder_has_read_it_is_missed[sqlite]",
        store="sqlite",
    ),
    planted(
        "SQLite: the lock of a holder is not watched",
        LOCAL,
        "        if self._inotify is None or self._locks.descriptor(key) is not None:\n",
        "        if self._inotify is None or key:\n",
        store="sqlite",
    ),
    planted(
        "SQLite: after other files were opened nobody watches them",
        LOCAL,
        "        self._replaced()\n        self._start_watching()\n",
        "        self._replaced()\n",
        store="sqlite",
    ),
    planted(
        "SQLite: a lock that is held is taken for free",
        LOCKS,
        "        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        "        fcntl.flock(fd, fcntl.LOCK_UN)\n",
        store="sqlite",
    ),
    planted(
        "SQLite: children do not inherit the lock",
        LOCKS,
        "        os.set_inheritable(fd, True)\n",
        "",
        store="sqlite",
    ),
    planted(
        "SQLite: the lock is dropped before the session is over",
        LOCAL,
        "        try:\n            await self._run(lambda records: records.close_session(",
        "        self._locks.drop(lease.key)\n        try:\n"
        "            await self._run(lambda records: records.close_session(",
        LOCKS,
        "        self.remove(key)\n        if fd",
        "        if fd",
        store="sqlite",
    ),
    planted(
        "SQLite: the lock file of a session that goes on is removed",
        LOCAL,
        '        if before not in ("", held.lease.key) and self._locks.is_relic(before):\n',
        "        if before:\n",
        test="tests/stores/test_local.py"
        "::test_a_leftover_is_retaken_under_its_own_session_whose_lock_stays[sqlite]",
    ),
    planted(
        "SQLite: a session that is not over is swept away",
        LOCAL,
        "            if file.stem not in live and self._locks.is_relic(file.stem):\n",
        "            if self._locks.is_relic(file.stem):\n",
        store="sqlite",
    ),
    planted(
        "SQLite: the bell is rung before the commit",
        LOCAL,
        "            result = work(self._connect())\n"
        "            if ring:\n                self._ring()\n",
        "            records = self._connect()\n"
        "            if ring:\n                self._ring()\n"
        "            result = work(records)\n",
        store="sqlite",
    ),
    planted(
        "SQLite: a take rings no bell",
        LOCAL,
        "                worker.submit(self._ring)\n",
        "                pass\n",
        store="sqlite",
    ),
    planted(
        "SQLite: that events were lost is not made up for",
        LOCAL,
        "            else:\n                if mask & inotify.OVERFLOWN:\n",
        "            elif number >= 0:\n                if mask & inotify.OVERFLOWN:\n",
        test="tests/stores/test_local.py::test_a_lost_event_is_made_up_for[sqlite]",
        store="sqlite",
    ),
    planted(
        "SQLite: a row that was there is not looked for again",
        "incumbent.stores.sqlite.tables",
        "        if version != self._found_at:\n",
        "        if self._found_at < 0:\n",
        store="sqlite",
    ),
    planted(
        "SQLite: a file that was replaced is not noticed",
        LOCAL,
        "        return self._identity is not None and self._identify() == self._identity\n",
        "        return self._identity is not None\n",
        store="sqlite",
    ),
    planted(
        "two stores that look alike are one",
        "incumbent.runtime.settings",
        'same = opened.url if opened.capabilities.one_host else f"{url} {opened.url}"',
        "same = opened.url",
        test="tests/faces/test_settings.py"
        "::test_stores_are_shared_by_the_whole_url_and_not_by_what_is_shown_of_it",
    ),
    # -- elections in a key-value store
    planted(
        "keys: the record is not compared",
        KV,
        "        conditions: dict[str, object] = {record: over.version}\n",
        "        conditions: dict[str, object] = {}\n",
        store="kv",
    ),
    planted(
        "keys: the session that is taken from is not compared",
        KV,
        "            conditions[theirs] = ABSENT if over.lease_version == GONE else "
        "over.lease_version\n",
        "",
        store="kv",
    ),
    planted(
        "keys: the session that is taken from is not voided",
        KV,
        "                writes[theirs] = wire.encode(ended)\n",
        "                wire.encode(ended)\n",
        store="kv",
    ),
    planted(
        "keys: a session that is gone is over",
        KV_MEANING,
        '    held = bool(key) and not told["void"]\n',
        '    held = bool(key) and session is not None and not told["void"]\n',
        store="kv",
    ),
    planted(
        "keys: taken under a session that may be void",
        KV,
        "            conditions[session_key(own)] = lease.version\n",
        "",
        test="tests/stores/test_keyvalue.py::test_key_value",
    ),
    planted(
        "keys: a void session is renewed",
        KV,
        "        if entry is None or is_over(entry):\n",
        "        if entry is None:\n",
        test="tests/stores/test_keyvalue.py::test_key_value",
    ),
    planted(
        "keys: an absence is taken that did not stand",
        KV,
        "            if not self._memory.still_absent(name, over.lease_version):\n",
        "            if over.lease_version is False:\n",
        test="tests/stores/test_keyvalue.py::test_an_absence_is_taken_only_if_it_stood",
    ),
    planted(
        "keys: an absence stands over a gap",
        KV_MEMORY,
        "        if not continuous or known.present or not known.mark:\n",
        "        if known.present or not known.mark:\n",
        test="tests/stores/test_keyvalue.py::test_an_absence_does_not_stand_over_a_gap",
    ),
    planted(
        "keys: somebody else's term is released",
        KV,
        " or snapshot.holding is not Holding.HELD or snapshot.term != term:\n",
        " or snapshot.holding is not Holding.HELD:\n",
        test="tests/stores/test_keyvalue.py::test_key_value",
    ),
    planted(
        "keys: an absence that is answered late is believed",
        KV,
        "            if entry is not None or self._reported(name) is known:\n",
        "            if True:\n",
        test="tests/stores/test_keyvalue.py::test_a_late_absence_is_no_deletion",
    ),
    planted(
        "keys: what was heard is released, whosever it is",
        KV_MEANING,
        ' and record["term"] == term and bool(record["session"])\n',
        ' and bool(record["session"])\n',
        test="tests/stores/test_keyvalue.py::test_a_release_leaves_what_was_heard_of_another_alone",
    ),
    planted(
        "keys: a release believes what it knows of its record, and compares nothing",
        KV,
        "self._driver.swap({key: entry.version}, {key: value}))[key]\n",
        "self._driver.swap({}, {key: value}))[key]\n",
        test="tests/stores/test_keyvalue.py::test_a_release_of_what_has_changed_reads_it_first",
    ),
    planted(
        "keys: a take is read back by its name",
        KV,
        "        if snapshot.holding is Holding.HELD and snapshot.term == claim.term:\n",
        "        if snapshot.holding is Holding.HELD and snapshot.holder == claim.identity:\n",
        store="kv",
    ),
    # -- elections in a SQL database
    planted(
        "sql: the record is not compared",
        SQL,
        '                f"WHERE name = {name} AND serial = {int(str(over.version))} "\n'
        '                f"AND term = {self._text(over.term)} '
        'AND session = {self._text(over.lease_key)} "\n',
        '                f"WHERE name = {name} "\n',
        store="sql",
    ),
    planted(
        "sql: the session that is taken from is not compared",
        SQL,
        '                wanted.append(f"EXISTS ({there} AND beat = {over.lease_version})")\n',
        '                wanted.append(f"EXISTS ({there})")\n',
        store="sql",
    ),
    planted(
        "sql: the session that is taken from is not voided",
        SQL,
        "        if victim:\n            statements.append(\n",
        "        if not own:\n            statements.append(\n",
        test="tests/stores/test_sql_rules.py::test_sql",
    ),
    planted(
        "sql: a session that is gone is over",
        SQL_ROWS,
        "Holding.HELD if session and beat != VOID else",
        "Holding.HELD if session and beat not in (None, VOID) else",
        store="sql",
    ),
    planted(
        "sql: taken under a session that may be void",
        SQL,
        'WHERE id = {own} AND beat <> {VOID})"]',
        'WHERE id = {own})"]',
        test="tests/stores/test_sql_rules.py::test_sql",
    ),
    planted(
        "sql: a void session is renewed",
        SQL,
        'SET beat = beat + 1 WHERE id = {quoted} AND beat <> {VOID}",',
        'SET beat = ABS(beat) + 1 WHERE id = {quoted}",',
        test="tests/stores/test_sql_rules.py::test_sql",
    ),
    planted(
        "sql: an election whose row was deleted is vacant",
        SQL_ROWS,
        "        ttl_s = float(found[2])\n",
        "        ttl_s = 0.0\n",
        store="sql",
    ),
    planted(
        "sql: somebody else's term is released",
        SQL,
        "        return self._change(held.name, held.term, change)\n",
        '        return [t.replace(f"AND term = {self._text(held.term)}", "") for t in '
        "self._change(held.name, held.term, change)]\n",
        store="sql",
    ),
    planted(
        "sql: a take is read back by its name",
        SQL_BASE,
        "        if found.holding is Holding.HELD and found.term == claim.term:\n",
        "        if found.holding is Holding.HELD and found.holder == claim.identity:\n",
        test="tests/stores/test_sql_rules.py::test_sql",
    ),
    # -- the store of plain files
    planted(
        "files: a take compares the record only, and not its session",
        FILES,
        "            if now.watched != over.watched or now.holding is not over.holding:\n",
        "            if now.version != over.version:\n",
        test="tests/stores/test_file.py"
        "::test_it_is_a_store[a_renewal_in_between_refuses_the_takeover]",
    ),
    planted(
        "files: the session of the deposed is not voided",
        FILES,
        "            if over.holding is Holding.HELD and over.lease_key != own:\n",
        "            if over.holding is Holding.HELD and over.lease_key == own:\n",
        test="tests/stores/test_file.py::test_it_is_a_store[a_takeover_voids_the_dead_session]",
    ),
    planted(
        "files: a renewal revives a session that is over",
        FILES,
        '            if isinstance(session, str) or session["void"]:\n',
        "            if isinstance(session, str):\n",
        test="tests/stores/test_file.py"
        "::test_it_is_a_store[a_term_that_was_taken_over_is_not_renewed]",
    ),
    planted(
        "files: release whatever term there is",
        FILES,
        "            if record is None or not _carries(record, held.term):\n",
        "            if record is None:\n",
        test="tests/stores/test_file.py::test_it_is_a_store[a_late_release_changes_nothing]",
    ),
    planted(
        "files: the record is renamed before the session of the deposed",
        FILES,
        "            for new, write in zip(staged, writes, strict=True):\n",
        "            for new, write in list(zip(staged, writes, strict=True))[::-1]:\n",
        test="tests/stores/test_file.py::test_a_swap_that_is_cut_short_is_unknown",
    ),
    planted(
        "files: what was staged is left behind",
        FILES,
        "            for new in staged:\n",
        "            for new in staged * (not done):\n",
        test="tests/stores/test_file.py::test_a_swap_that_is_cut_short_is_unknown",
    ),
    planted(
        "files: two write at once",
        "incumbent.stores.file.locking",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        test="tests/stores/test_file.py::test_two_never_write_at_once",
    ),
    planted(
        "files: the record is not read again after its session",
        FILES,
        "            if self._load_record(file) == value:\n",
        "            if file:\n",
        test="tests/stores/test_file.py"
        "::test_a_record_that_changes_while_its_session_is_read_is_read_again",
    ),
    planted(
        "files: a session that is gone has ended",
        FILES,
        "    if session is None:\n        return GONE\n",
        "    if session is None:\n        return VOID\n",
        test="tests/stores/test_file.py::test_a_session_of_which_nothing_is_known_proves_no_death",
    ),
    planted(
        "files: what was removed is as good as what never was",
        FILES,
        "absent(name, serial, self._longest_ttl_s())",
        "absent(name, serial)",
        test="tests/stores/test_file.py"
        "::test_a_record_that_was_removed_is_told_from_one_that_never_was",
    ),
    planted(
        "files: an absence is as old as what was there",
        FILES,
        "                serial = self._counter() + 1\n            elif",
        "                serial = self._counter()\n            elif",
        test="tests/stores/test_file.py::test_garbage_is_foreign_and_harms_no_other",
    ),
    planted(
        "files: a lost counter starts at the time of day, whatever was given out",
        FILES,
        "        return max([start, *serials])\n",
        "        return start\n",
        test="tests/stores/test_file.py::test_the_same_number_is_never_given_out_twice",
    ),
    planted(
        "files: a take is confirmed before it is on the disk",
        FILES,
        "        self._settle()\n",
        "",
        test="tests/stores/test_file.py::test_what_is_confirmed_is_on_the_disk",
    ),
    planted(
        "files: a renewal during the first read is forgotten",
        FILE_STORE,
        "            if stem in self._names_of or self._refreshing is not None:\n",
        "            if stem in self._names_of:\n",
        test="tests/stores/test_file.py::test_a_renewal_during_the_first_read_is_not_missed",
    ),
)
