"""Mistakes in each store's own rules, and the test on the real server that finds each.

Those in a lock table of others that the simulator can see are found by it.

They are tried like those of `tests.simulator.mutants`, which has the rules that stores share, those
of the stores on one host's disk, and the machine. What is planted in the scripts of Redis is in
`tests.stores.test_redis_worlds`. Nothing of incumbent is imported here: who tries a mistake has to
be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

FACE = "incumbent.runtime.face"
KV = "incumbent.stores.kv.store"
ETCD = "incumbent.stores.etcd.wire"
ETCD_WATCH = "incumbent.stores.etcd.watch"
ZOOKEEPER = "incumbent.stores.zookeeper.driver"
ZNODES = "incumbent.stores.zookeeper.nodes"
CONSUL = "incumbent.stores.consul.driver"
CONSUL_CLIENT = "incumbent.stores.consul.client"
REDIS = "incumbent.stores.redis.driver"
REDIS_CLIENT = "incumbent.stores.redis.client"
HTTP = "incumbent.stores.http"
LEASES = "incumbent.stores.kubernetes.store"
CAMEL = "incumbent.stores.kubernetes.camel"
GROUPS = "incumbent.stores.kubernetes.camel_map"
FORMATS = "incumbent.stores.kubernetes.formats"
NAMES = "incumbent.stores.kubernetes.names"
SQL = "incumbent.stores.sql.store"
STATEMENTS = "incumbent.stores.sql.statements"
JOINED_ROWS = "incumbent.stores.sql.joined.rows"
JOINED_SQL = "incumbent.stores.sql.joined.statements"
POSTGRESQL = "incumbent.stores.postgresql.connection"
BELL = "incumbent.stores.postgresql.bell"
DAPR = "incumbent.stores.dapr.store"
DAPR_REST = "incumbent.stores.dapr.rest"
DAPR_RPC = "incumbent.stores.dapr.rpc"
MYSQL = "incumbent.stores.mysql.connection"
FILE_STORE = "incumbent.stores.file.store"
LOCKS = "incumbent.stores.local.locks"
FILESYSTEM = "incumbent.stores.local.filesystem"
TABLES = "incumbent.stores.sqlite.tables"
MIGRATION = "incumbent.cli.migration"
ZOOKEEPER_QUEUE = "incumbent.stores.zookeeper.queue"
ZOOKEEPER_SESSION = "incumbent.stores.zookeeper.session"
ETCD_LEASE = "incumbent.stores.etcd.lease"
ETCD_QUEUE = "incumbent.stores.etcd.queue"

_LATE_JOIN = "test_a_join_that_arrives_after_its_place_was_left_makes_no_key"
_CELL = "tests/stores/test_capabilities.py::test_the_cell_is_true"
_LANES = "tests/stores/test_lanes.py::test_a_renewal_waits_for_no_take"
_ETCD = "tests/stores/test_etcd.py::"
_ZOOKEEPER = "tests/stores/test_zookeeper.py::"
_CONSUL = "tests/stores/test_consul.py::"
_DAPR = "tests/stores/test_dapr.py::"
_SQL = "tests/stores/test_sql.py::"
_CAMEL = "tests/stores/test_kubernetes_camel.py::"
_GROUPS = "tests/stores/test_kubernetes_camel_map.py::"
_BESIDE = "test_what_is_written_beside_a_record_is_no_life_of_it_and_no_refusal"
_FORMATS = "tests/stores/test_kubernetes_formats.py::"
_POSTGRESQL = "tests/stores/test_postgresql.py::"
_JOINED = "tests/stores/test_sql_joined.py::"
_MIGRATION = "tests/cli/test_migration.py::"
_QUEUES = "tests/stores/test_queues.py::"
_QUEUE_FAULTS = "tests/stores/test_queue_faults.py::"

_RENEWAL = (
    "                written = await "
    "self._driver.swap({key: lease.version}, {key: value}, urgent=True)\n"
)
_READ = (
    "                entry, _ = await self._driver.get(key)\n"
    "                written = {key: entry}\n"
)


PLANTED: tuple[Mutant, ...] = (
    # -- what confirms a renewal
    planted("etcd: a read confirms", KV, _RENEWAL, _READ, test=f"{_CELL}[etcd-confirmed_by]"),
    planted("Consul: a read confirms", KV, _RENEWAL, _READ, test=f"{_CELL}[consul-confirmed_by]"),
    planted("Redis: a read confirms", KV, _RENEWAL, _READ, test=f"{_CELL}[redis-confirmed_by]"),
    planted(
        "ZooKeeper: a connection that is alive confirms",
        ZOOKEEPER,
        "        hollow: frozenset[str] = frozenset()\n        for _",
        '        if all(k[0] == "s" and conditions[k] is not ABSENT for k in writes):\n'
        "            return {k: (await self._nodes.look(link, k)).entry for k in writes}\n"
        "        hollow: frozenset[str] = frozenset()\n        for _",
        test=f"{_CELL}[zookeeper-confirmed_by]",
    ),
    planted(
        "Leases: what was known confirms",
        LEASES,
        "        token = known if term == lease.key else None\n",
        "        if term == lease.key:\n            return lease\n        token = None\n",
        test=f"{_CELL}[kubernetes-confirmed_by]",
    ),
    planted(
        "PostgreSQL: a row that was not updated is confirmed",
        SQL,
        "        if not found or int(found[0][0]) == rows.VOID:\n"
        '            raise Refused(absent("the session"))\n',
        "        if not found:\n            return lease\n",
        test="tests/stores/test_postgresql.py"
        "::test_directly[a_term_that_was_taken_over_is_not_renewed]",
    ),
    # -- a renewal behind takes
    planted(
        "etcd: a renewal takes the lane of the takes",
        KV,
        _RENEWAL,
        _RENEWAL.replace(", urgent=True", ""),
        test=f"{_LANES}[etcd]",
    ),
    planted(
        "Consul: a renewal waits for a connection of the takes",
        HTTP,
        "contextlib.nullcontext() if urgent else self._slots",
        "self._slots",
        test=f"{_LANES}[consul]",
    ),
    planted(
        "Redis: a renewal waits for the connection of the takes",
        REDIS_CLIENT,
        "lane = self._urgent if urgent and self._lane.busy else self._lane",
        "lane = self._lane",
        test=f"{_LANES}[redis]",
    ),
    planted(
        "Redis: a connection that is passed on looks free to a renewal",
        REDIS_CLIENT,
        "        return bool(self._requests)\n",
        "        return self.turn.locked()\n",
        test="tests/stores/test_redis.py"
        "::test_a_renewal_does_not_queue_for_a_connection_that_is_being_passed_on",
    ),
    planted(
        "Redis: a take counts that a renewal overtook, and did not ask about",
        REDIS,
        "        again = writes if word",
        '        again = () if word == b"done" else writes if word',
        test="tests/stores/test_redis.py"
        "::test_a_take_that_a_renewal_overtook_is_looked_at_before_it_counts",
    ),
    planted(
        "Redis: what a long read found absent is as new as its end",
        REDIS,
        "        return self.numbers[key] if entry is None else entry.revision\n",
        "        return self.counter if entry is None else entry.revision\n",
        test="tests/stores/test_redis.py"
        "::test_a_long_read_does_not_undo_what_was_taken_in_the_middle_of_it",
    ),
    planted(
        "SQL: a renewal takes a place of the takes",
        SQL,
        "limit_s, urgent=True)\n        if not found",
        "limit_s)\n        if not found",
        test=f"{_LANES}[postgresql]",
    ),
    # -- etcd
    planted(
        "etcd: a member's memory is read",
        ETCD,
        '{"request_range": {"key": self._key(key)}} for key in keys',
        '{"request_range": {"key": self._key(key), "serializable": True}} for key in keys',
        test=f"{_ETCD}test_a_read_is_not_what_a_member_remembers",
    ),
    planted(
        "etcd: a watch that fell silent is trusted",
        ETCD_WATCH,
        "        return None if heard_at is None else heard_at + SILENCE_S\n",
        "        return None\n",
        test=f"{_ETCD}test_a_watch_that_falls_silent_is_noticed",
    ),
    # -- Dapr
    planted(
        "Dapr: two attempts of a candidate lock under one name",
        DAPR,
        "        match await self._sidecar.unlock(self._resource(name), owner):\n",
        '        owner = owner.partition("/")[0]\n'
        "        match await self._sidecar.unlock(self._resource(name), owner):\n",
        DAPR,
        "try_lock(resource, claim.term, math",
        "try_lock(resource, claim.identity, math",
        test=f"{_DAPR}test_conformance[a_release_gives_back_no_other_term]",
    ),
    planted(
        "Dapr: a lock is shorter than the term",
        DAPR,
        "math.ceil(claim.ttl_s)",
        "math.floor(claim.ttl_s)",
        test=f"{_DAPR}test_a_lock_is_a_key_with_our_nonce_for_a_whole_ttl[http]",
    ),
    planted(
        "Dapr: what may have been locked is forgotten",
        DAPR,
        "        return await self._unlock(name, claim.term, claim.ttl_s)\n",
        "        return Snapshot(name, Holding.VACANT, version=0, serial=0)\n",
        test=f"{_DAPR}test_each_error_says_what_is_known[http]",
    ),
    planted(
        "Dapr: a refusal looks like the one before",
        DAPR,
        "        version = next(self._versions)\n",
        "        version = 0\n",
        test=f"{_DAPR}test_a_refusal_names_nobody_and_differs_from_the_one_before",
    ),
    planted(
        "Dapr: a lock that was another's counts as given back",
        DAPR,
        "            case Unlocked.DONE | Unlocked.NO_SUCH_LOCK:\n",
        "            case Unlocked.DONE | Unlocked.NO_SUCH_LOCK | Unlocked.ANOTHER_OWNERS:\n",
        test=f"{_DAPR}test_conformance[a_release_gives_back_no_other_term]",
    ),
    planted(
        "Dapr: who only looks is told that there is nothing",
        DAPR,
        "        self._looks_only = not create\n",
        "        self._looks_only = False\n",
        test=f"{_DAPR}test_who_only_looks_or_asks_is_refused_in_clear_words",
    ),
    planted(
        "Dapr over HTTP: a lock store that did not answer has done nothing",
        DAPR_REST,
        "        raise OutcomeUnknown(text)\n",
        "        raise StoreUnavailable(text)\n",
        test=f"{_DAPR}test_a_lock_store_that_does_not_answer_leaves_it_unknown[http]",
    ),
    planted(
        "Dapr over gRPC: a lock store that did not answer has done nothing",
        DAPR_RPC,
        "            raise OutcomeUnknown(text) from error\n",
        "            raise StoreUnavailable(text) from error\n",
        test=f"{_DAPR}test_a_lock_store_that_does_not_answer_leaves_it_unknown[grpc]",
    ),
    planted(
        "Dapr over gRPC: a connection that fell silent is used again",
        DAPR_RPC,
        "            if self._line is line:\n                self._line = None\n",
        "",
        test=f"{_DAPR}test_after_a_request_that_was_cancelled_comes_a_new_connection[grpc]",
    ),
    planted(
        "a body that goes on until its time is over hears nothing of it",
        FACE,
        "        return self.was_lost or (self.here and not term.remaining())\n",
        "        return self.was_lost\n",
        test=f"{_DAPR}test_a_body_that_takes_no_notice_until_its_time_is_over_hears_of_it",
    ),
    # -- ZooKeeper
    planted(
        "ZooKeeper: what one server remembers is read",
        ZOOKEEPER,
        "        await self._settled(link)\n        found =",
        "        found =",
        test=f"{_ZOOKEEPER}test_a_read_is_confirmed_by_a_majority_and_sync_would_not_be",
    ),
    planted(
        "ZooKeeper: a node of an earlier life is adopted",
        ZNODES,
        "                nonce, count = secrets.token_hex(12), 0\n",
        '                nonce, count = "0", 0\n',
        test=f"{_ZOOKEEPER}"
        "test_a_version_is_not_used_again_when_a_record_was_deleted_and_made_anew",
    ),
    # -- Consul
    planted(
        "Consul: the same value written again is no write",
        CONSUL,
        '"Index": index, "Flags": index}',
        '"Index": index}',
        test=f"{_CONSUL}test_a_write_of_the_same_value_is_a_new_version",
    ),
    planted(
        "Consul: a leader's memory is read",
        CONSUL_CLIENT,
        '        response = await self._get(self._requests, path, {"consistent": ""}, urgent',
        '        response = await self._get(self._requests, path, {"stale": ""}, urgent',
        test="tests/stores/test_consul_cluster.py"
        "::test_a_server_without_its_peers_confirms_nothing",
    ),
    planted(
        "Consul: that a record was made is noted nowhere",
        CONSUL,
        "            if created is not None and conditions[key] is ABSENT:\n",
        "            if created == key:\n",
        test=f"{_CONSUL}test_an_absence_that_was_interrupted_unseen_is_another_one",
    ),
    # -- SQL
    planted(
        "SQL: the rows that were written are not looked at",
        SQL,
        "        if found.term == claim.term and found.holding is Holding.HELD:\n"
        "            return rows.held(claim, found)\n        if not beat",
        "        if found.holding is Holding.HELD:\n"
        "            return rows.held(claim, found)\n        if not beat",
        test=f"{_POSTGRESQL}test_directly[a_renewal_in_between_refuses_the_takeover]",
    ),
    planted(
        "SQL: the session that is taken from is not compared",
        STATEMENTS,
        'wanted.append(f"EXISTS ({there} AND beat = {over.lease_version})")',
        'wanted.append(f"EXISTS ({there})")',
        test="tests/stores/test_mysql.py::test_mariadb[a_renewal_in_between_refuses_the_takeover]",
    ),
    planted(
        "SQL: own session is not compared",
        STATEMENTS,
        "WHERE id = {own} AND beat <> {VOID})",
        "WHERE id = {own})",
        test=f"{_SQL}test_a_take_under_a_session_that_is_over_changes_nothing",
    ),
    planted(
        "SQL: serial is not compared",
        STATEMENTS,
        "AND serial = {int(str(over.version))} ",
        "AND serial <> {-int(str(over.version))} ",
        test=f"{_SQL}test_a_take_names_the_write_that_was_watched",
    ),
    planted(
        "SQL: fingerprint is not compared",
        SQL,
        "        if self._print.get(lease.key) != (count, total):\n",
        "        if lease.key not in self._print:\n",
        test=f"{_SQL}test_a_holder_hears_of_a_deleted_row_by_its_own_renewal",
    ),
    planted(
        "SQL: tokens start anew when a row was deleted",
        STATEMENTS,
        'first = f"GREATEST(c.serial + 1, {least})"',
        'first = "c.serial - c.serial + 1"',
        test=f"{_POSTGRESQL}test_directly[the_token_grows]",
    ),
    planted(
        "PostgreSQL: a commit of unknown outcome has failed",
        POSTGRESQL,
        "            raise (OutcomeUnknown if writes else StoreUnavailable)(text) from None\n",
        "            raise StoreUnavailable(text) from None\n",
        test=f"{_SQL}test_a_write_whose_answer_is_lost_is_unknown_and_found_again[postgres]",
    ),
    planted(
        "MySQL: a commit of unknown outcome has failed",
        MYSQL,
        "        return (OutcomeUnknown if writes else StoreUnavailable)(text)\n",
        "        return StoreUnavailable(text)\n",
        MYSQL,
        "            raise (OutcomeUnknown if writes else StoreUnavailable)(text) from None\n",
        "            raise StoreUnavailable(text) from None\n",
        test=f"{_SQL}test_a_write_whose_answer_is_lost_is_unknown_and_found_again[mariadb]",
    ),
    planted(
        "PostgreSQL: that a pooler swallows LISTEN is not noticed",
        BELL,
        "            if not await self._proven(connection):\n",
        "            if connection is None:\n",
        test=f"{_CELL}[postgresql, pooled-wakes_by]",
    ),
    # -- locks of other libraries in a database
    planted(
        "joined: a lock is free as soon as its time has passed",
        JOINED_ROWS,
        "Holding.VACANT if found.over and free else Holding.HELD",
        "Holding.VACANT if found.over else Holding.HELD",
        store="joined",
    ),
    planted(
        "joined: a lock that expires was given up",
        JOINED_ROWS,
        "        return same and self.over and self.row.until < before.row.until\n",
        "        return same and self.over\n",
        test=f"{_JOINED}test_one_that_expires_under_our_eyes_is_not_given_up[postgresql-shedlock]",
    ),
    planted(
        "joined: who follows the robber does not wait for the robbed",
        JOINED_ROWS,
        "        alive_s = ttl_s if lives else 0.0\n",
        "        alive_s = 0.0\n",
        store="joined",
    ),
    planted(
        "joined: a lock that vanished under a term is vacant",
        JOINED_ROWS,
        "else not (keeps or lives)\n",
        "else not keeps\n",
        store="joined",
    ),
    planted(
        "joined: what vanished is waited out for as long as it was given",
        JOINED_ROWS,
        "    if row is None and given_up and not keeps:\n",
        "    if row is None and free and not keeps:\n",
        test=f"{_JOINED}test_what_theirs_had_been_given_is_not_waited_out_for_ours",
    ),
    planted(
        "joined: a take compares nothing of ours",
        JOINED_SQL,
        'WHERE {row} AND serial = {seen.serial}"\n        if seen.row',
        'WHERE {row}"\n        if seen.row',
        JOINED_SQL,
        "WHERE {row} AND serial = {seen.serial} AND format",
        "WHERE {row} AND format",
        store="joined",
    ),
    planted(
        "joined: a robbery is old news to the robbed",
        JOINED_ROWS,
        "        serial=2 * serial + 1,\n        holder=",
        "        serial=2 * serial,\n        holder=",
        test=f"{_JOINED}test_a_robbed_term_is_over_and_touches_nothing[postgresql-shedlock]",
    ),
    planted(
        "joined: a renewal extends whoever's lock it is",
        JOINED_SQL,
        '            f"{theirs} WHERE {self._key(lock)} AND {self._table.owner} = {mark} "\n',
        '            f"{theirs} WHERE {self._key(lock)} "\n',
        test=f"{_JOINED}test_a_robbed_term_is_over_and_touches_nothing[mariadb-spring]",
    ),
    planted(
        "joined: the database's clock is not asked at the take",
        JOINED_SQL,
        '                    f"AND {table.until} < {dialect.now}"\n',
        '                    f"AND {table.until} IS NOT NULL"\n',
        test=f"{_JOINED}test_a_lock_of_theirs_is_theirs_until_its_time_has_passed[mariadb-spring]",
    ),
    planted(
        "joined: a lock that was extended meanwhile is taken",
        JOINED_SQL,
        '                    f"AND {dialect.written(table.until)} = {text(seen.row.until)} "\n',
        '                    ""\n',
        test=f"{_JOINED}test_one_whose_time_has_passed_stands_still_besides[mariadb-spring]",
    ),
    planted(
        "joined: a record that was taken away is old news",
        "incumbent.stores.sql.base",
        "        self._report(found, fresh=went_back and self._told_at[name] <= began)\n",
        "        self._report(found)\n",
        test="tests/simulator/test_histories.py::test_a_row_that_was_taken_away_is_no_old_news",
    ),
    planted(
        "joined: a renewal keeps them out for less than it is trusted",
        JOINED_SQL,
        "{self._dialect.after(lease.ttl_s)}",
        "{self._dialect.after(lease.ttl_s / 9)}",
        store="joined",
    ),
    planted(
        "joined: a take keeps them out for less than it is trusted",
        JOINED_SQL,
        '                f"{table.until} = {dialect.after(claim.ttl_s)} "\n',
        '                f"{table.until} = {dialect.after(claim.ttl_s / 9)} "\n',
        store="joined",
    ),
    # -- queues: what their drivers do; the rules above them are in `planted_queues`
    planted(
        "etcd: a deposed leader keeps a lease alive",
        ETCD_LEASE,
        "        if _term(before) != _term(answer):\n",
        "        if not _term(before) or not _term(answer):\n",
        test=f"{_QUEUE_FAULTS}test_a_keep_alive_counts_if_its_leader_led_after_it",
    ),
    planted(
        "etcd: a place that is given up late takes the one along that was taken since",
        ETCD_QUEUE,
        "        return node if node is not None and node.value == self._values.get(tag) else",
        "        return node if node is not None else",
        test=f"{_QUEUE_FAULTS}test_a_place_that_is_given_up_late"
        "_is_not_the_one_that_was_taken_since[etcd]",
    ),
    planted(
        "etcd: who leaves a queue does not end a join that is on its way",
        ETCD_QUEUE,
        "            if tag in self._unanswered:\n",
        "            if tag is None:\n",
        test=f"{_QUEUE_FAULTS}{_LATE_JOIN}[False]",
    ),
    planted(
        "etcd: a join that is answered ends the one before",
        ETCD_QUEUE,
        "            raise\n        return _node(kv)\n",
        "            raise\n        self._unanswered.discard(tag)\n        return _node(kv)\n",
        test=f"{_QUEUE_FAULTS}{_LATE_JOIN}[True]",
    ),
    planted(
        "etcd: a key that is gone is proven",
        ETCD_QUEUE,
        "        if not wire.succeeded(answer):\n",
        "        if not answer:\n",
        test=f"{_QUEUES}test_etcd[a_node_that_is_gone_ends_the_term]",
    ),
    planted(
        "etcd: a lease is kept, and its term not counted from it",
        ETCD_QUEUE,
        "            answer = await lease.confirm(order)\n",
        '            answer = await self._client.ask("/v3/kv/txn", order, "write")\n',
        test=f"{_QUEUE_FAULTS}test_a_renewal_keeps_the_lease_alive",
    ),
    planted(
        "ZooKeeper: a write confirms what the leader has not heard",
        ZOOKEEPER_SESSION,
        "        if self._attached_at < oldest and not beats:\n",
        "        if not granted_s:\n",
        test=f"{_QUEUE_FAULTS}test_a_write_does_not_confirm_what_the_leader_may_not_have_heard",
    ),
    planted(
        "ZooKeeper: the end of a connection ends its session",
        "incumbent.stores.zookeeper.link",
        "            client_id=(self._session.id, self._session.password) "
        "if self._session.id else None,\n",
        "            client_id=None,\n",
        test=f"{_QUEUE_FAULTS}test_the_session_goes_on_over_another_connection",
    ),
    planted(
        "ZooKeeper: a renewal writes the node, and who waits for its end looks away",
        ZOOKEEPER_QUEUE,
        'confirm([Op("check", node.key)])',
        'confirm([Op("set_data", node.key, node.value)])',
        test="tests/partners/test_zookeeper.py::test_a_latch_behind_ours_hears_of_its_end",
    ),
    planted(
        "ZooKeeper: a lost answer leaves two nodes",
        ZOOKEEPER_QUEUE,
        "        found = await self.find(lock, tag, ttl_s)\n        if found is not None:\n",
        "        found = None\n        if found is not None:\n",
        test=f"{_QUEUE_FAULTS}test_a_node_that_was_made_without_an_answer_is_the_one",
    ),
    planted(
        "joined: a bar keeps them out for a while",
        JOINED_SQL,
        "{table.until} = {self._dialect.latest}",
        "{table.until} = {self._dialect.after(3600.0)}",
        test=f"{_JOINED}test_a_bar_keeps_them_out_for_good_until_it_is_lifted[mariadb-spring]",
    ),
    planted(
        "joined: a bar is written over whoever has the lock",
        JOINED_SQL,
        '            f"WHERE {self._key(lock)} AND {table.owner} = {text(mark)} "\n',
        '            f"WHERE {self._key(lock)} "\n',
        JOINED_SQL,
        '{was}{marked}",\n',
        '{was}",\n',
        test=f"{_JOINED}test_a_bar_that_they_have_broken_keeps_ours_out_and_says_so"
        "[postgresql-shedlock]",
    ),
    planted(
        "joined: a bar that keeps nobody of theirs out is told as a success",
        JOINED_SQL,
        '{was}{marked}",\n',
        '{was}",\n',
        test=f"{_JOINED}test_a_bar_that_they_have_broken_keeps_ours_out_and_says_so"
        "[mariadb-spring]",
    ),
    planted(
        "joined: a bar is as good as its row of ours",
        JOINED_ROWS,
        "row.owner == mark and not found.over",
        "row.owner == mark",
        test=f"{_JOINED}test_a_bar_that_they_have_only_unlocked_is_written_anew"
        "[postgresql-shedlock]",
    ),
    # -- plain files, and locks
    planted(
        "files: nobody hears of a record that is removed",
        FILE_STORE,
        "inotify.ENTERED | inotify.LEFT | inotify.CLOSED",
        "inotify.ENTERED | inotify.CLOSED",
        test="tests/stores/test_file.py::test_whoever_follows_hears_that_a_record_was_removed",
    ),
    planted(
        "files: a lock file that was made anew is believed",
        LOCKS,
        "        return not number or number == _number(fd)\n",
        "        return True\n",
        test="tests/stores/test_local.py::test_only_the_file_that_was_locked_tells_of_a_death",
    ),
    planted(
        "files: a lock hangs on a number that anybody may close",
        LOCKS,
        "            mapping.madvise(mmap.MADV_DONTFORK)",
        "            mapping.close()",
        test="tests/stores/test_local.py::test_a_descriptor_that_somebody_closes_is_no_death",
    ),
    planted(
        "files: a link that leads elsewhere is not looked at",
        "incumbent.stores.local.store",
        "        if not os.path.samestat(theirs, found[0]):\n",
        "        if False:\n",
        test="tests/stores/test_local.py"
        "::test_a_link_that_leads_elsewhere_deposes[file-to a store]",
    ),
    planted(
        "SQLite: a file with two names has two leaders",
        FILESYSTEM,
        "    if links > 1:\n",
        "    if links > 9:\n",
        test="tests/stores/test_sqlite.py::test_a_file_with_two_names_is_refused",
    ),
    planted(
        "SQLite: a file that is mounted alone has two leaders",
        FILESYSTEM,
        "    if any(point == str(path) for ",
        "    if any(point == '' for ",
        test="tests/stores/test_sqlite.py"
        "::test_a_file_that_is_mounted_without_its_folder_is_refused",
    ),
    planted(
        "SQLite: a forked child believes in its parent's file locks",
        TABLES,
        "            with suppress(sqlite3.Error):\n                tables._db.close()\n",
        "            pass\n",
        test="tests/stores/test_sqlite.py::test_a_forked_child_has_the_file_locks_of_what_it_opens",
    ),
    planted(
        "a callback's SystemExit ends the keeper",
        "incumbent.runtime.driver",
        "        except BaseException:\n            logger.exception(",
        "        except Exception:\n            logger.exception(",
        test="tests/faces/test_sync.py"
        "::test_who_would_end_the_process_from_there_does_not_end_the_keeper[on_lost]",
    ),
    planted(
        "an observer's SystemExit ends the keeper",
        "incumbent.runtime.candidacy",
        "            hook(*values)\n        except BaseException:\n",
        "            hook(*values)\n        except Exception:\n",
        test="tests/faces/test_sync.py"
        "::test_who_would_end_the_process_from_there_does_not_end_the_keeper[observer]",
    ),
    planted(
        "the keeper waits for itself",
        "incumbent.runtime.face",
        "        return self.here and not on_keepers_thread()\n",
        "        return self.here\n",
        test="tests/faces/test_sync.py"
        "::test_a_body_that_the_garbage_collector_leaves_there_is_left[store]",
    ),
    # -- bars, and what moves by them
    planted(
        "migrate: TO is opened before FROM is barred",
        MIGRATION,
        "            await self._bar_source()\n",
        "            await self._lift(self.target, self.target.seen)\n"
        "            await self._bar_source()\n",
        test=f"{_MIGRATION}test_it_moves_and_tells_each_step",
    ),
    planted(
        "migrate: a lifting that is under way is not made void",
        MIGRATION,
        "        other.seen = await self._write(other, stays, stays.bar.text)\n",
        "        other.seen = stays\n",
        test=f"{_MIGRATION}test_to_lift_a_bar_too_late_has_no_effect",
    ),
    planted(
        "migrate: a bar is lifted at whatever version it has",
        MIGRATION,
        "                    return await side.store.unbar(over)\n",
        "                    return await side.store.unbar(await self._read(side))\n",
        test=f"{_MIGRATION}test_of_one_that_goes_on_and_one_that_undoes_one_is_refused",
    ),
    planted(
        "migrate: tokens are compared when it is too late",
        MIGRATION,
        "            self._compare_tokens()\n            await self._bar_own(",
        "            await self._bar_own(",
        test=f"{_MIGRATION}test_tokens_that_would_fall_are_refused_and_the_url_is_told",
    ),
    planted(
        "migrate: a stranger's bar is taken for ours",
        MIGRATION,
        "    return seen.bar is not None and seen.bar.text in texts\n",
        "    return seen.bar is not None and bool(texts)\n",
        test=f"{_MIGRATION}test_what_is_barred_by_somebody_else_is_left_alone",
    ),
    planted(
        "migrate: whoever holds TO is waited out",
        MIGRATION,
        "        if seen.holding is Holding.HELD and not seen.holder.startswith(self.mark):\n",
        "        if seen.holding is Holding.FOREIGN:\n",
        test=f"{_MIGRATION}test_a_target_that_is_held_is_refused_at_once",
    ),
    planted(
        "Redis: a bar is replaced without a comparison",
        KV,
        "            entry = (await self._driver.swap({key: over.version}, {key: wire.",
        "            now = (await self.read(over.name)).version\n"
        "            entry = (await self._driver.swap({key: now}, {key: wire.",
        test="tests/stores/test_redis.py"
        "::test_conformance[a_bar_is_replaced_at_exactly_its_version]",
    ),
    planted(
        "Redis: whoever holds is barred",
        KV,
        "            over.name, over.term, lambda _, token: wire.barred(bar, token)\n",
        "            over.name,\n            (await self.read(over.name)).term,\n"
        "            lambda _, token: wire.barred(bar, token),\n",
        test="tests/stores/test_redis.py::test_conformance[only_the_term_that_it_names_is_barred]",
    ),
    planted(
        "Redis: a restart lifts bars",
        "incumbent.stores.redis.scripts",
        "  local kept = bars()\n  for i = 2",
        "  local kept = {}\n  for i = 2",
        test="tests/stores/test_bars.py"
        "::test_redis_keeps_it_over_a_restart_and_forgets_it_with_its_data",
    ),
    planted(
        "SQLite: whoever holds is barred",
        TABLES,
        " is Holding.HELD is over.holding and now.term == over.term\n",
        " is Holding.HELD\n",
        test="tests/stores/test_sqlite.py"
        "::test_it_is_a_store[only_the_term_that_it_names_is_barred]",
    ),
    planted(
        "files: a bar is lifted twice",
        "incumbent.stores.file.records",
        "            exact = now.bar is not None and now.version == over.version\n",
        "            exact = now.bar is not None or over.bar is not None\n",
        test="tests/stores/test_file.py::test_it_is_a_store[a_bar_that_was_lifted_is_a_vacancy]",
    ),
    planted(
        "files: a bar is confirmed before it is on the disk",
        "incumbent.stores.file.records",
        "        self._settle_record(over.name)\n",
        "",
        test="tests/stores/test_file.py::test_a_bar_that_is_confirmed_is_on_the_disk",
    ),
    planted(
        "PostgreSQL: a bar is replaced without a comparison",
        STATEMENTS,
        '                f"serial = {int(str(over.version))} AND term = '
        '{self._text(over.bar.nonce)} "\n'
        '                f"AND format = {BARRED}"\n',
        '                f"format = {BARRED}"\n',
        test="tests/stores/test_postgresql.py"
        "::test_directly[a_bar_is_replaced_at_exactly_its_version]",
    ),
    planted(
        "Leases: a bar is replaced without a comparison",
        LEASES,
        "        obj = await self._exactly(name, over)\n        for _",
        "        _, obj = await self._read(name)\n        for _",
        test="tests/stores/test_conformance.py"
        "::test_kubernetes[a_bar_is_replaced_at_exactly_its_version]",
    ),
    planted(
        "shifted tokens are written down",
        "incumbent.stores.shifted",
        "        return _moved(snapshot, -self._shift)\n",
        "        return snapshot\n",
        test="tests/stores/test_shifted.py::test_what_stands_in_etcd_has_its_own_tokens",
    ),
    # -- Kubernetes, in formats that are no Lease
    planted(
        "Formats: a ConfigMap that is no election's is vacant",
        FORMATS,
        "            holding=Holding.FOREIGN,\n",
        "            holding=Holding.VACANT,\n",
        test=f"{_FORMATS}test_a_config_map_that_is_no_election_is_left_alone",
    ),
    planted(
        "Formats: an annotation that somebody removed is a vacancy",
        FORMATS,
        "holding=Holding.ABSENT, version=at",
        "holding=Holding.VACANT, version=at",
        test=f"{_FORMATS}test_an_annotation_that_somebody_removes_is_an_absence_that_is_waited_out",
    ),
    planted(
        "Formats: a renewal that looks the same to whoever compares whole seconds",
        FORMATS,
        "        seconds = later(before, wall_s) // 1_000_000\n",
        "        seconds = int(wall_s)\n",
        test=f"{_FORMATS}test_golden_life_of_an_annotation",
    ),
    planted(
        "Formats: a heartbeat that follows a wall clock back",
        FORMATS,
        "        return str(max(int(wall_s * 1000), int(last) + 1))\n",
        "        return str(int(wall_s * 1000) if last else 0)\n",
        test=f"{_FORMATS}test_a_time_that_was_written_is_never_taken_back_by_its_own_holder",
    ),
    planted(
        "Formats: a holder of theirs is waited for as long as one of ours before it",
        FORMATS,
        '        ours = belongs(notes.get(TERM_KEY, ""), owner) and ttl.isdecimal()\n',
        "        ours = ttl.isdecimal()\n",
        test=f"{_FORMATS}test_a_lease_of_theirs_is_waited_for_as_long_as_they_would_be",
    ),
    planted(
        "Formats: a TTL within which theirs take over",
        LEASES,
        "        form.check(claim)\n",
        "",
        test=f"{_FORMATS}test_a_term_that_a_member_of_theirs_would_cut_short_is_refused",
    ),
    planted(
        "Formats: two elections in one object",
        NAMES,
        "        elif self.election_of(called) != name:\n",
        "        elif not called:\n",
        test=f"{_FORMATS}test_names_have_a_way_back",
    ),
    planted(
        "Camel: a holder whose Pod is Ready is taken over",
        CAMEL,
        "                if over.holder in members - {pod}:\n",
        "                if over.holder == pod:\n",
        test=f"{_CAMEL}test_from_a_holder_of_theirs_it_is_taken_when_the_pod_is_gone"
        "_and_in_two_steps",
    ),
    planted(
        "Camel: a holder of theirs is not waited for after it lost the lock",
        CAMEL,
        "            if obj is None or not form.is_evicted(obj):\n",
        "            if over.holder in members - {pod}:\n",
        test=f"{_CAMEL}test_from_a_holder_of_theirs_it_is_taken_when_the_pod_is_gone"
        "_and_in_two_steps",
    ),
    planted(
        "Camel: a term counts after theirs has renewed the Lease",
        CAMEL,
        "        if holder and written and pod_of(identity) == holder:\n",
        "        if holder and pod_of(identity) == holder:\n",
        test=f"{_CAMEL}test_a_term_counts_only_with_what_was_written_with_it",
    ),
    planted(
        "Camel: a wait that counts for the next holder as well",
        CAMEL,
        "        return bool(renewed_at) and self.notes(obj).get(EVICTED_KEY) == renewed_at\n",
        "        return bool(renewed_at) and EVICTED_KEY in self.notes(obj)\n",
        test=f"{_CAMEL}test_the_wait_for_a_former_holder_ends_with_any_other_write",
    ),
    planted(
        "Camel: a lock is taken away for a term that cannot begin",
        CAMEL,
        "        form.check(claim)\n        members",
        "        members",
        test=f"{_CAMEL}test_from_a_holder_of_theirs_it_is_taken_when_the_pod_is_gone"
        "_and_in_two_steps",
    ),
    planted(
        "Camel: who is no member takes the lock",
        CAMEL,
        "        if pod not in members:\n",
        "        if not members:\n",
        test=f"{_CAMEL}test_who_is_no_member_takes_nothing",
    ),
    planted(
        "Camel: a release that theirs takes for a holder who is gone",
        CAMEL,
        '        if record.get("holderIdentity"):\n',
        '        if "holderIdentity" in record:\n',
        test=f"{_CAMEL}test_golden_life_of_a_lease",
    ),
    # -- several records in one object
    planted(
        "Groups: what is written for another is a sign of life of this one",
        GROUPS,
        '        return (str(obj["metadata"].get("uid", "")), *entries)\n',
        '        return (str(obj["metadata"]["resourceVersion"]), *entries)\n',
        test=f"{_GROUPS}{_BESIDE}[recipe=camel-configmap]",
    ),
    planted(
        "ConfigMaps: what is written beside a record is a sign of life of it",
        FORMATS,
        "        return (_uid(obj), *(told.get(key) for key in _FIELDS), *_marks(obj))\n",
        "        return super().version_of(obj) if told else None\n",
        test=f"{_GROUPS}{_BESIDE}[recipe=configmap]",
    ),
    planted(
        "Groups: a conflict of the object is a refusal",
        LEASES,
        "            if found.watched != over.watched or _version(obj) == sent_at:\n",
        "            if found.watched != over.watched or sent_at:\n",
        test=f"{_GROUPS}{_BESIDE}[recipe=camel-configmap]",
    ),
    planted(
        "Groups: every conflict is one of somebody who wrote beside it",
        LEASES,
        "            if found.watched != over.watched or _version(obj) == sent_at:\n",
        "            if _version(obj) == sent_at:\n",
        test=f"{_GROUPS}test_a_take_that_meets_a_write_beside_it_and_one_of_its_own_record"
        "_is_refused",
    ),
    planted(
        "Groups: what is written beside a record is told to whoever follows it",
        "incumbent.stores.kubernetes.watch",
        "            if before is None or _news(before, snapshot):\n",
        "            if snapshot:\n",
        test=f"{_GROUPS}{_BESIDE}[recipe=camel-configmap]",
    ),
    planted(
        "Groups: a term counts whoever holds",
        GROUPS,
        "        return told if with_it == (data.get(self._pod), data.get(self._time)) else {}\n",
        "        return told if with_it else {}\n",
        test=f"{_GROUPS}test_a_term_counts_only_with_the_pod_and_the_timestamp"
        "_that_it_was_written_with",
    ),
    planted(
        "Groups: the nonce is not written",
        GROUPS,
        "        told |= {key: value for key, value in record.items()",
        "        told = {key: value for key, value in record.items()",
        test=f"{_GROUPS}test_golden_life_of_a_group",
    ),
    planted(
        "Groups: a map that was made anew is vacant",
        GROUPS,
        "            return absent(name, version(obj))\n",
        "            at = self.version_of(obj)\n"
        "            return Snapshot(name, Holding.VACANT, at, version(obj), lease_version=at)\n",
        test=f"{_GROUPS}test_a_map_that_is_made_anew_for_another_group_proves_no_death",
    ),
    planted(
        "Groups: Camel's entries that are gone under a holder of ours are a release",
        GROUPS,
        '        if pod is None and (self._note not in data or "pod" in written):\n',
        "        if pod is None and self._note not in data and not written:\n",
        test=f"{_GROUPS}test_entries_of_camel_that_are_gone_are_waited_out"
        "_if_one_of_ours_was_there",
    ),
)
