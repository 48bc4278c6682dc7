"""Mistakes in the rules of periodic tasks, and the test that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

SCHEDULE = "incumbent.workloads.schedule"
TASK = "incumbent.workloads.periodic.task"
JUDGING = "incumbent.workloads.periodic.judging"
CHOICES = "incumbent.workloads.periodic.choices"
DOCUMENT = "incumbent.workloads.periodic.document"
ORDERS = "incumbent.workloads.periodic.orders"
STRETCHES = "incumbent.workloads.periodic.stretches"
AGENDA = "incumbent.workloads.periodic.agenda"
BACKGROUND = "incumbent.workloads.background"

_CLOCKS = "tests/workloads/test_periodic_clocks.py::test_"
_RUNS = "tests/workloads/test_periodic_runs.py::test_"
_FACES = "tests/workloads/test_periodic_faces.py::test_"
_SCHEDULE = "tests/workloads/test_schedule.py::test_"
_ORDERS = "tests/workloads/test_periodic_orders.py::test_"
_REWIND = "tests/workloads/test_periodic_rewind.py::test_"
_HISTORIES = "tests/workloads/test_periodic_histories.py"

_CLAIM = "            await self._uncut(self._save(self._doc))\n            error = "
_CALL = "await self._call(stage, run)\n"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "periodic: each tick comes up to a millisecond late",
        AGENDA,
        "self._waiting[0][0] / 1000 - self._clock.wall()",
        "(self._waiting[0][0] - now_ms) / 1000",
        test=_CLOCKS + "what_has_begun_of_a_millisecond_is_not_waited_for_again",
    ),
    # -- a tick has one run
    planted(
        "periodic: the claim is noted after the run",
        TASK,
        _CLAIM + _CALL,
        f"            error = {_CALL}            await self._uncut(self._save(self._doc))\n",
        test=_RUNS + "an_interrupted_tick_is_begun_again_as_a_further_attempt",
    ),
    planted(
        "periodic: the claim is sent, and nobody waits for it",
        TASK,
        _CLAIM,
        "            asyncio.ensure_future(self._save(self._doc))\n            error = ",
        test=_HISTORIES,
    ),
    planted(
        "periodic: a claim without the token",
        TASK,
        "                token=self._token,\n",
        "                token=0,\n",
        test=_RUNS + "an_interrupted_tick_is_begun_again_as_a_further_attempt",
    ),
    planted(
        "periodic: a new holder begins where its clock is",
        TASK,
        "        self._judged_ms = self._doc.through_ms\n",
        "        self._judged_ms = self._agenda.now_ms()\n",
        test=_CLOCKS + "a_successor_whose_clock_is_behind_runs_no_tick_again",
    ),
    planted(
        "periodic: what is late to a clock that is ahead is skipped",
        JUDGING,
        "late_ms > choices.late_s * 1000",
        "late_ms > 0",
        test=_CLOCKS + "a_successor_whose_clock_is_ahead_skips_no_tick",
    ),
    planted(
        "periodic: only the latest is made up for, under all",
        JUDGING,
        '    limit = choices.missed_limit if word == "all" else 1\n',
        "    limit = 1\n",
        test=_CLOCKS + "a_clock_that_is_far_ahead_skips_no_tick_under_all",
    ),
    planted(
        "periodic: what waits in the backlog is noted as done with",
        TASK,
        "        through_ms = self._backlog[0] - 1 if self._backlog else self._judged_ms\n",
        "        through_ms = self._judged_ms\n",
        test=_HISTORIES,
    ),
    planted(
        "periodic: a claim does not count as done with",
        TASK,
        "            through_ms = max(doc.through_ms, doc.run.due_ms, through_ms)\n",
        "            through_ms = doc.through_ms\n",
        test=_HISTORIES,
    ),
    planted(
        "periodic: a step of the clock is slept through",
        AGENDA,
        "LOOK_EVERY_S = 1.0\n",
        "LOOK_EVERY_S = 3600.0\n",
        test=_CLOCKS + "a_clock_that_steps_forward_is_noticed_within_a_second",
    ),
    planted(
        "periodic: another rule makes up for a past that it had not",
        TASK,
        "            self._judged_ms = max(self._judged_ms, now_ms)\n",
        "",
        test=_CLOCKS + "another_rule_begins_at_the_present",
    ),
    # -- the end of a term
    planted(
        "periodic: what has not begun counts as interrupted",
        TASK,
        "run=replace(run, state=PENDING)",
        "run=run",
        test=_RUNS + "at_a_planned_end_what_has_not_begun_is_given_back",
    ),
    planted(
        "periodic: the note of an end that is on its way is left to itself",
        TASK,
        "        await self._uncut(self._save(self._doc))\n        if",
        "        await self._save(self._doc)\n        if",
        test=_RUNS + "at_a_planned_end_the_note_of_a_run_s_end_is_waited_for",
    ),
    planted(
        "periodic: a thread's run that returns in time is not noted",
        TASK,
        "        return not self._call.cancelled() and self._call.exception() is None\n",
        "        return False\n",
        test=_FACES + "a_run_in_a_thread_that_returns_in_time_is_noted_as_done",
    ),
    planted(
        "periodic: a lost term is a failure of the tick",
        TASK,
        "isinstance(error, LeadershipLost | StaleToken) or ",
        "",
        test=_RUNS + "a_lost_term_is_never_a_failure_of_the_tick",
    ),
    planted(
        "periodic: interrupted for ever",
        TASK,
        "        elif interruptions > choices.reruns:\n",
        "        elif False:\n",
        test=_RUNS + "a_tick_that_kills_its_process_each_time_is_given_up",
    ),
    planted(
        "periodic: an interrupted tick is begun again, whatever was chosen",
        TASK,
        '        if choices.on_interrupted == "skip":\n',
        "        if False:\n",
        test=_RUNS + "or_it_is_left",
    ),
    planted(
        "periodic: a retry that is due dies with its term",
        TASK,
        "        run = replace(run, state=RETRY, ",
        "        run = replace(run, state=RUNNING, ",
        test=_RUNS + "a_retry_outlives_its_term_also_where_interrupted_ticks_are_left",
    ),
    # -- overruns
    planted(
        "periodic: what comes during a run counts as missed",
        TASK,
        "            found = self._judge(self._agenda.now_ms(), overrun=True)\n",
        "            found = self._judge(self._agenda.now_ms())\n",
        test=_RUNS + "ticks_that_come_during_a_run",
    ),
    planted(
        "periodic: each attempt is recorded as a tick of its own",
        "incumbent.workloads.periodic.tick",
        "        return self._fence().once(connection, self.id)\n",
        '        return self._fence().once(connection, f"{self.id} {self.attempt}")\n',
        test="tests/workloads/test_periodic_record.py"
        "::test_a_rerun_after_the_commit_finds_the_effect_there",
    ),
    # -- orders
    planted(
        "periodic: an order is not claimed with its run",
        TASK,
        "replace(self._doc, served=ask.serial, held=held)",
        "replace(self._doc, held=held)",
        test=_RUNS + "an_order_to_run_now_is_carried_out_once_also_while_paused",
    ),
    planted(
        "periodic: a look at the orders that is old already",
        TASK,
        "        if (await self._desk.fresh()).pauses(self._spec.name):\n            return\n"
        "        tick_ms",
        "        if self._desk.orders.pauses(self._spec.name):\n"
        "            return\n        tick_ms",
        test=_RUNS + "a_pause_counts_from_the_next_tick_on_however_late_it_comes",
    ),
    planted(
        "periodic: what came during a pause is made up for",
        TASK,
        "            self._take_in(replace(found, dropped=dropped, chosen=()), outcome=",
        "            self._judged_ms = self._doc.through_ms\n"
        "            replace(found, dropped=dropped) or dict(outcome=",
        test=_RUNS + "a_pause_drops_its_ticks_and_a_restart_does_not_bring_them_back",
    ),
    planted(
        "periodic: an order of the same id is another one",
        ORDERS,
        "        if any(ask.id == id for ask in self.asks):\n",
        "        if False:\n",
        test=_RUNS + "an_order_to_run_now_is_carried_out_once_also_while_paused",
    ),
    planted(
        "periodic: many orders push out those that wait",
        ORDERS,
        "asks=(*done, *waiting, ask))\n",
        "asks=(*done, *waiting, ask)[-50:])\n",
        test=_RUNS + "orders_that_wait_are_never_dropped_for_later_ones",
    ),
    planted(
        "periodic: numbers of orders begin again",
        ORDERS,
        "max(self.serial, *served.values(), 0) + 1",
        "self.serial + 1",
        test=_ORDERS + "an_order_after_the_orders_were_deleted_is_carried_out",
    ),
    planted(
        "periodic: where nothing is noted, all orders are new",
        TASK,
        "        return orders.serial\n",
        "        return 0\n",
        test=_ORDERS + "orders_from_before_the_notes_were_deleted_are_not_carried_out_again",
    ),
    # -- pauses
    planted(
        "periodic: a pause drops what came before it",
        TASK,
        "            self._take_in(self._judge(min(self._doc.since_ms, until_ms)))\n",
        "            self._backlog.clear()\n",
        test=_ORDERS + "a_pause_drops_no_tick_that_came_before_it",
    ),
    planted(
        "periodic: a pause begins when a holder sees it",
        ORDERS,
        "min(self._agenda.now_ms(), max(self._looked_ms, at_ms))",
        "self._agenda.now_ms()",
        test=_ORDERS + "ticks_of_a_pause_at_which_nobody_led_are_nobody_s",
    ),
    planted(
        "periodic: an operator's clock says what came before a pause",
        ORDERS,
        "min(self._agenda.now_ms(), max(self._looked_ms, at_ms))",
        "at_ms",
        test=_ORDERS + "a_wrong_clock_of_an_operator_moves_a_pause_to_the_last_look_at_most",
    ),
    planted(
        "periodic: a pause lasts until its end is seen",
        TASK,
        "            found = self._judge(until_ms)\n",
        "            found = self._judge(self._agenda.now_ms())\n",
        test=_ORDERS + "ticks_after_the_end_of_a_pause_are_run_however_late_it_is_seen",
    ),
    planted(
        "periodic: an interrupted tick is begun again during a pause",
        TASK,
        "        if self._doc.paused:\n            return None\n        return run or",
        "        return run or",
        test=_ORDERS + "an_interrupted_tick_is_not_begun_again_while_it_is_paused",
    ),
    planted(
        "periodic: a retry does not look for a pause",
        TASK,
        "        if not run.order and (await self._desk.fresh()).pauses(self._spec.name):\n",
        "        if not run.order and self._desk.orders.pauses(self._spec.name):\n",
        test=_ORDERS + "a_retry_does_not_overlook_a_pause_of_just_now",
    ),
    planted(
        "periodic: an order pushes out the tick that waits for the end of a pause",
        TASK,
        "        held = self._doc.held or self._doc.run\n",
        "        held = None\n",
        test=_ORDERS + "an_interrupted_tick_is_not_begun_again_while_it_is_paused",
    ),
    planted(
        "periodic: who goes back leaves a claimed tick for later",
        TASK,
        "self._doc.rewound) or self._doc.run or self._doc.held:\n",
        "self._doc.rewound):\n",
        test=_REWIND + "what_waits_for_the_end_of_a_pause_has_its_turn_before",
    ),
    planted(
        "periodic: who would forget a tick that was put aside reads its document",
        DOCUMENT,
        "_BARRING if self.barred or self.held else FORMAT",
        "_BARRING if self.barred else FORMAT",
        test=_ORDERS + "a_tick_that_was_put_aside_is_read_as_it_was_written",
    ),
    # -- what is noted
    planted(
        "periodic: a document of another version is read all the same",
        DOCUMENT,
        '            if data["v"] not in (FORMAT, _BARRING):\n',
        '            data = {**cls()._plain(()), **data}\n            if data["v"] == 0:\n',
        test=_RUNS + "a_document_of_another_version_is_left_alone",
    ),
    planted(
        "periodic: the history grows past what a store takes",
        DOCUMENT,
        "            if len(encoded) <= _ROOM_BYTES or not rows:\n",
        "            if True:\n",
        test=_RUNS + "the_history_is_bounded_and_the_document_stays_small",
    ),
    planted(
        "periodic: jitter that no two hosts agree on",
        CHOICES,
        'f"{job} {tick_ms}".encode()',
        'f"{job} {tick_ms} {id(self)}".encode()',
        test=_RUNS + "jitter_is_the_tick_s_own_and_the_same_on_every_host",
    ),
    # -- days of change
    planted(
        "cron: a repeated hour runs fixed times again",
        SCHEDULE,
        "            found = self._instant(local)\n",
        "            fold = instant.astimezone(self.zone).fold\n"
        "            found = local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)\n",
        test=_SCHEDULE + "a_search_that_begins_in_between_finds_the_same",
    ),
    planted(
        "cron: a time in a gap comes as much later as the gap is long",
        SCHEDULE,
        "        return found if change is None else change\n",
        "        return found\n",
        test=_SCHEDULE + "the_runs_on_a_day_of_change_are_those_of_the_table",
    ),
    planted(
        "cron: a moving line misses the hour that comes again",
        SCHEDULE,
        "            change = self._change(instant, found)\n            if",
        "            change = None\n            if",
        test=_SCHEDULE + "the_runs_on_a_day_of_change_are_those_of_the_table",
    ),
    planted(
        "cron: a tick is called by its local time",
        SCHEDULE,
        "    instant = _EPOCH + timedelta(milliseconds=tick_ms)\n    return instant.isoformat(",
        "    instant = instant_of(tick_ms, zone_of('Europe/Vienna')).replace(tzinfo=UTC)\n"
        "    return instant.isoformat(",
        test=_SCHEDULE + "ids_are_unique_where_local_times_are_not",
    ),
    # -- commands
    planted(
        "command: a run has all the time there is",
        "incumbent.workloads.command",
        "(term.ended or boottime() >= until_s)",
        "term.ended",
        test="tests/workloads/test_command.py::test_it_has_had_its_time",
    ),
    # -- in the background
    planted(
        "background: a forked child has none",
        BACKGROUND,
        "            timer.start()\n",
        "",
        test=_FACES + "in_the_background_it_is_there_again_after_a_fork",
    ),
    # -- back to the present
    planted(
        "periodic: nothing is barred for who goes back",
        STRETCHES,
        "    claimed = ((end_ms, through_ms),) if end_ms < through_ms else ()\n",
        "    claimed = ()\n",
        test=_REWIND + "ticks_begin_at_the_present_again[latest]",
    ),
    planted(
        "periodic: a leap over what is barred frees it",
        STRETCHES,
        "    for begin_ms, end_ms in barred:\n        parts",
        "    for begin_ms, end_ms in ():\n        parts",
        test=_REWIND + "stretches",
    ),
    planted(
        "periodic: who goes back may go anywhere",
        STRETCHES,
        "if stretch[0] <= now_ms < stretch[1]]",
        "] or [(now_ms, through_ms)]",
        test=_REWIND + "where_every_tick_was_run_there_is_nothing_to_go_back_to",
    ),
    planted(
        "periodic: an order to go back is obeyed by each term",
        DOCUMENT,
        'rewound=str(data.get("rewound", "")),',
        'rewound="",',
        test=_REWIND + "an_order_is_obeyed_once",
    ),
    planted(
        "periodic: barred stretches are forgotten by the next term",
        TASK,
        "        self._schedule = without(self._spec.schedule, self._doc.barred)\n"
        "        if self._doc.rule",
        "        if self._doc.rule",
        test=_REWIND + "ticks_begin_at_the_present_again[latest]",
    ),
    planted(
        "periodic: what was run late counts as passed over",
        TASK,
        "self._pass_over((self._judged_ms, found.dropped[-1]))",
        "self._pass_over((self._judged_ms, found.through_ms))",
        test=_REWIND + "ticks_begin_at_the_present_again[latest]",
    ),
)
