"""Mistakes in the rules of fencing, over HTTP and below it, and the test that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

CONNECTIONS = "incumbent.fencing.connections"
FENCE = "incumbent.fencing.fence"
HEADER = "incumbent.fencing.header"
PROGRESS = "incumbent.fencing.progress"
RECEIVED = "incumbent.fencing.http.received"
SQL = "incumbent.fencing.sql"

_HTTP = "tests/fencing/test_http.py::"
_DONE = "tests/fencing/test_progress.py::test_"
_UNTIL = _HTTP + "test_a_leader_writes_until_a_later_one_has"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "fence: the token is compared, and its transaction is over",
        SQL,
        "        (highest,) = values_of(cursor.fetchone())\n    finally:\n",
        "        (highest,) = values_of(cursor.fetchone())\n"
        "        connection.commit()\n"
        "        cursor.execute('SELECT 1')\n"
        "    finally:\n",
        test="tests/fencing/test_http_workers.py::test_a_write_that_was_let_through_is_not_overtaken",
    ),
    planted(
        "fence: SQLAlchemy is believed that it is in a transaction",
        CONNECTIONS,
        "    if _known_library(used):\n",
        "    if False:\n",
        test="tests/fencing/test_sql.py"
        "::test_sqlalchemy_that_commits_each_statement_by_itself_is_refused",
    ),
    planted(
        "fence: a leader is refused its second write",
        FENCE,
        "        if highest > self.token:\n",
        "        if highest >= self.token:\n",
        test=f"{_UNTIL}[wsgi]",
    ),
    planted(
        "fence: an old token takes the place of a later one",
        SQL,
        "            ELSE incumbent_fence.token END\n",
        "            ELSE excluded.token END\n",
        test=f"{_UNTIL}[wsgi]",
    ),
    planted(
        "fence: what was seen is forgotten with the connection",
        SQL,
        "CREATE TABLE IF NOT EXISTS",
        "CREATE TEMPORARY TABLE IF NOT EXISTS",
        test=f"{_HTTP}test_a_service_that_starts_again_remembers[asgi]",
    ),
    planted(
        "HTTP: the refusal comes after the write",
        RECEIVED,
        "            self.refused = error\n            raise\n",
        "            self.refused = error\n",
        test=f"{_UNTIL}[asgi]",
    ),
    planted(
        "HTTP: a token is whatever Python reads as a number",
        HEADER,
        "    if not _TOKEN.fullmatch(text):\n",
        "    if not text.strip().isdecimal():\n",
        test=f"{_HTTP}test_what_is_no_token_is_refused",
    ),
    planted(
        "HTTP: of two tokens the first counts",
        RECEIVED,
        " if len(tokens) == 1 else None\n",
        " if tokens else None\n",
        test=f"{_HTTP}test_what_is_no_token_is_refused",
    ),
    planted(
        "HTTP: a token of another election counts",
        RECEIVED,
        "        if [name.strip(",
        "        if False and [name.strip(",
        test=f"{_HTTP}test_a_token_for_something_else_is_refused",
    ),
    planted(
        "HTTP: what carries no token is handled",
        RECEIVED,
        "            if method.upper() in self.safe_methods:\n",
        "            if method:\n",
        test=f"{_HTTP}test_a_request_that_may_change_something_needs_a_token",
    ),
    planted(
        "HTTP: a read that was not sealed is answered",
        RECEIVED,
        "        if self.unasked or fence.asked or",
        "        if self.unasked or True or",
        test=f"{_HTTP}test_a_read_that_carries_a_token_is_sealed",
    ),
    planted(
        "HTTP: a term that is over sends its token",
        FENCE,
        "        self._check()\n        return header.written",
        "        return header.written",
        test=f"{_HTTP}test_a_leader_sends_the_token_as_long_as_it_leads",
    ),
    planted(
        "progress: an item that is done is done again",
        PROGRESS,
        '"", first, known',
        '"", True, known',
        test=f"{_DONE}an_item_is_done_once_whoever_does_it[sqlite3]",
    ),
    planted(
        "progress: an old token writes ids",
        FENCE,
        "        self._judge(noted.token)\n        return noted\n",
        "        return noted\n",
        test=f"{_DONE}an_item_is_done_once_whoever_does_it[sqlite3]",
    ),
    planted(
        "progress: what comes again moves the checkpoint back",
        PROGRESS,
        "        if first and checkpoint:\n",
        "        if checkpoint:\n",
        test=f"{_DONE}the_checkpoint_is_moved_by_what_is_done_now_alone[sqlite3]",
    ),
    planted(
        "progress: what comes again moves the checkpoint back, in one statement",
        PROGRESS,
        "CASE WHEN EXISTS (SELECT 1 FROM {first}) AND :checkpoint <> ''",
        "CASE WHEN :checkpoint <> ''",
        test=f"{_DONE}the_checkpoint_is_moved_by_what_is_done_now_alone[psycopg]",
    ),
    planted(
        "progress: what was not there to be taken moves the checkpoint",
        PROGRESS,
        'taken=_TAKEN.format(taking=taking), first="noted, taken")',
        'taken=_TAKEN.format(taking=taking), first="noted")',
        test=f"{_DONE}what_is_not_there_to_be_taken_moves_nothing[psycopg]",
    ),
    planted(
        "progress: the count is read before the seal has waited",
        PROGRESS,
        "WHERE work = :work FOR UPDATE\n),\nnoted",
        "WHERE work = :work\n),\nnoted",
        test=f"{_DONE}a_successor_waits_for_the_transaction_that_is_open[psycopg-c]",
    ),
    planted(
        "progress: the checkpoint is written without a seal",
        FENCE,
        "        await self.checkpoint_in(db)\n",
        "",
        test=f"{_DONE}the_checkpoint_is_moved_by_what_is_done_now_alone[sqlite3]",
    ),
    planted(
        "progress: the id is looked for before the seal has waited",
        PROGRESS,
        "    SELECT :work, :item, items + 1 FROM held WHERE token <= :token\n"
        "    ON CONFLICT (work, item) DO NOTHING\n",
        "    SELECT :work, :item, items + 1 FROM held WHERE token <= :token AND NOT EXISTS (\n"
        "        SELECT 1 FROM incumbent_done d WHERE d.work = :work AND d.item = :item)\n",
        test=f"{_DONE}a_successor_waits_for_the_transaction_that_is_open[psycopg-b]",
    ),
    planted(
        "progress: ids are kept for ever",
        PROGRESS,
        "    if number % max(1, step or keep // 10) == 0:\n",
        "    if False:\n",
        test=f"{_DONE}ids_of_the_last_items_are_kept_and_no_more[sqlite3]",
    ),
    planted(
        "progress: reads count as items, so the ids are never cut at the right one",
        PROGRESS,
        '"token": token, "step": 0}',
        '"token": token, "step": 1}',
        test=f"{_DONE}ids_of_the_last_items_are_kept_and_no_more[sqlite3]",
    ),
    planted(
        "progress: MySQL takes two ids for one",
        PROGRESS,
        '" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"',
        '""',
        test=f"{_DONE}ids_are_kept_as_they_were_meant[pymysql]",
    ),
    planted(
        "progress: long ids are cut",
        PROGRESS,
        "    return _HASHED + sha256",
        "    return item[:LONGEST_ID].strip() or sha256",
        test=f"{_DONE}ids_are_kept_as_they_were_meant[sqlite3]",
    ),
)
