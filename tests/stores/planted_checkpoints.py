"""Mistakes in what keeps checkpoints, and what finds each.

Those in who may write are found on the store of the process's memory; those in how a store swaps,
on that store.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_CHECKPOINTS"]

CARRYING = "incumbent.cli.carrying"
MIGRATION = "incumbent.cli.migration"
PROGRESS = "incumbent.runtime.checkpoints"
GROUPING = "incumbent.runtime.grouping"
MEMORY = "incumbent.stores.memory"
API = "incumbent.stores.api"
SQLITE = "incumbent.stores.sqlite.checkpoints"
FILES = "incumbent.stores.file.checkpoints"
KV = "incumbent.stores.kv.checkpoints"
NAMING = "incumbent.stores.naming"
REDIS = "incumbent.stores.redis.checkpoints"
SQL = "incumbent.stores.sql.checkpoints"
LEASES = "incumbent.stores.kubernetes.checkpoints"
WIRE = "incumbent.stores.kubernetes.wire"

_PROGRESS = "tests/runtime/test_checkpoints.py::"
_NOTES = "tests/simulator/test_notes.py::test_nothing_goes_back_and_nothing_is_lost"
_MEMORY = "tests/stores/test_conformance.py::test_memory"
_SQLITE = "tests/stores/test_sqlite.py::test_it_is_a_store"
_FILES = "tests/stores/test_file.py::test_it_is_a_store"
_KUBERNETES = "tests/stores/test_conformance.py::test_kubernetes"
_REDIS = "tests/stores/test_redis.py::test_conformance"
_ETCD = "tests/stores/test_etcd.py::test_conformance"
_POSTGRESQL = "tests/stores/test_postgresql.py::test_directly"

_REFUSED = "[a_write_over_what_is_not_there_any_more_is_refused]"
_AT_ONCE = "[of_several_writers_at_once_one_succeeds]"
_ANEW = "[a_checkpoint_is_read_as_it_was_written]"
_APART = "[each_part_of_each_election_is_by_itself]"
_LONG = "[long_names_are_kept_apart]"
_TOGETHER = "[several_are_written_together]"
_EACH = "[of_several_together_each_is_compared_by_itself]"
_ONE_PART = "[of_several_together_for_one_part_one_is_written]"
_NO_PART = "[a_checkpoint_is_no_part_of_the_election]"

PLANTED_CHECKPOINTS: tuple[Mutant, ...] = (
    # -- who may write
    planted(
        "checkpoints: opened without a seal",
        PROGRESS,
        "            self._now = await self._tried(self._sealed)\n",
        "",
        test=f"{_PROGRESS}test_a_seal_alone_keeps_a_former_holder_out",
    ),
    planted(
        "checkpoints: the seal writes what was read first",
        PROGRESS,
        "        return await self._swapped(lambda: self._now.value)\n",
        "        read = self._now.value\n        return await self._swapped(lambda: read)\n",
        test=f"{_PROGRESS}test_what_a_former_holder_has_under_way_is_read_or_refused",
    ),
    planted(
        "checkpoints: a greater token is written over",
        PROGRESS,
        "        if self._now.token > self._token:\n",
        "        if self._now.token < 0:\n",
        test=f"{_PROGRESS}test_a_seal_alone_keeps_a_former_holder_out",
    ),
    planted(
        "checkpoints: what is unknown is believed",
        PROGRESS,
        "            except (OutcomeUnknown, StoreUnavailable):\n",
        "            except OutcomeUnknown:\n"
        "                return self._now  # type: ignore[return-value]\n"
        "            except StoreUnavailable:\n",
        test=f"{_PROGRESS}test_a_save_is_known_to_be_written_once[1-lost]",
    ),
    planted(
        "checkpoints: a repetition that comes second is written again",
        PROGRESS,
        "                if self._now.token == self._token and self._now.value == meant:\n",
        "                if not meant:\n",
        test=f"{_PROGRESS}test_a_save_is_known_to_be_written_once[1-unanswered]",
    ),
    planted(
        "checkpoints: what is there under our token is what we meant",
        PROGRESS,
        "                if self._now.token == self._token and self._now.value == meant:\n",
        "                if self._now.token == self._token:\n",
        test=f"{_PROGRESS}test_a_save_that_was_given_up_does_not_stand_for_the_next_one",
    ),
    planted(
        "checkpoints: written after the term",
        PROGRESS,
        "self._now, value(), self._token, self._term.check)\n",
        "self._now, value(), self._token)\n",
        test=f"{_PROGRESS}test_what_is_unknown_when_the_term_ends_is_said_to_be_lost[lost]",
    ),
    planted(
        "checkpoints: what waits for its turn goes though its term is over",
        GROUPING,
        "            try:\n                asked.check()\n            except Exception as error:\n",
        "            try:\n                pass\n            except Exception as error:\n",
        test=f"{_PROGRESS}test_what_waits_for_its_turn_when_the_term_ends_is_not_sent",
    ),
    planted(
        "checkpoints: a group that was not answered is taken for written",
        PROGRESS,
        "            return await self._ask(lambda store: store.advance_all(advances))\n",
        "            try:\n"
        "                return await self._ask(lambda store: store.advance_all(advances))\n"
        "            except OutcomeUnknown:\n"
        "                return [Checkpoint(a.over.name, a.over.part, a.value, a.token) for a in "
        "advances]\n",
        test=f"{_PROGRESS}test_what_is_unknown_of_a_group_is_found_out_for_each[fates2]",
    ),
    planted(
        "checkpoints: one of a group that moved is taken for written",
        PROGRESS,
        "            return await self._ask(lambda store: store.advance_all(advances))\n",
        "            found = await self._ask(lambda store: store.advance_all(advances))\n"
        "            return [getattr(one, 'checkpoint', one) for one in found]\n",
        test=f"{_PROGRESS}test_of_a_group_only_those_are_stale_that_were_sealed_since",
    ),
    planted(
        "checkpoints: one of a group that moved fails all",
        GROUPING,
        "            answered = list(zip(group, answers, strict=True))\n",
        "            odd = [one for one in answers if isinstance(one, Exception)]\n"
        "            answered = [(a, odd[0] if odd else one) for a, one in zip(group, answers)]\n",
        test=f"{_PROGRESS}test_of_a_group_only_those_are_stale_that_were_sealed_since",
    ),
    planted(
        "checkpoints: what one of a group came to is told to another",
        GROUPING,
        "            answered = list(zip(group, answers, strict=True))\n",
        "            answered = list(zip(group, reversed(answers), strict=True))\n",
        test=f"{_PROGRESS}test_of_a_group_only_those_are_stale_that_were_sealed_since",
    ),
    planted(
        "checkpoints: a group is as long as it happens to be",
        GROUPING,
        "            if group and size > left:\n",
        "            if group and size > size:\n",
        test=f"{_PROGRESS}test_long_ones_go_by_few",
    ),
    planted(
        "checkpoints: a list of many is read for another's",
        PROGRESS,
        "                return [found.get(part) or Checkpoint(name, part) for part in parts]\n",
        "                return [at for _, at in zip(parts, found.values())]\n",
        test=f"{_PROGRESS}test_many_are_opened_and_saved_by_few_requests",
    ),
    planted(
        "checkpoints: two saves at once",
        PROGRESS,
        "        async with self._saving:\n            self._now = await self._tried(lambda",
        "        if value is not None:\n            self._now = await self._tried(lambda",
        test=f"{_PROGRESS}test_two_saves_at_once_are_written_one_after_the_other",
    ),
    # -- the same, played: former holders, lost answers, and what comes late
    planted(
        "played: opened without a seal",
        PROGRESS,
        "            self._now = await self._tried(self._sealed)\n",
        "",
        test=f"{_NOTES}[sqlite]",
    ),
    planted(
        "played: a greater token is written over",
        PROGRESS,
        "        if self._now.token > self._token:\n",
        "        if self._now.token < 0:\n",
        test=f"{_NOTES}[kubernetes]",
    ),
    planted(
        "played: what is unknown is believed",
        PROGRESS,
        "            except (OutcomeUnknown, StoreUnavailable):\n",
        "            except OutcomeUnknown:\n"
        "                return self._now  # type: ignore[return-value]\n"
        "            except StoreUnavailable:\n",
        test=f"{_NOTES}[key-value]",
    ),
    planted(
        "played: a group that was not answered is taken for written",
        PROGRESS,
        "            return await self._ask(lambda store: store.advance_all(advances))\n",
        "            try:\n"
        "                return await self._ask(lambda store: store.advance_all(advances))\n"
        "            except OutcomeUnknown:\n"
        "                return [Checkpoint(a.over.name, a.over.part, a.value, a.token) for a in "
        "advances]\n",
        test=f"{_NOTES}[memory]",
    ),
    planted(
        "played: one of a group that moved is taken for written",
        PROGRESS,
        "            return await self._ask(lambda store: store.advance_all(advances))\n",
        "            found = await self._ask(lambda store: store.advance_all(advances))\n"
        "            return [getattr(one, 'checkpoint', one) for one in found]\n",
        test=f"{_NOTES}[sqlite]",
    ),
    planted(
        "played: what one of a group came to is told to another",
        GROUPING,
        "            answered = list(zip(group, answers, strict=True))\n",
        "            answered = list(zip(group, reversed(answers), strict=True))\n",
        test=f"{_NOTES}[sql]",
    ),
    planted(
        "played: a late group is written over what was sealed since",
        SQLITE,
        "            return [_outcome(db, serial, one) for one in advances]\n",
        "            now = [_there(db, one.over.name, one.over.part) for one in advances]\n"
        "            return [\n"
        "                _outcome(db, serial, Advance(at, one.value, one.token))\n"
        "                for at, one in zip(now, advances)\n"
        "            ]\n",
        test=f"{_NOTES}[sqlite]",
    ),
    planted(
        "played: swapped without a version",
        MEMORY,
        "        if now.version != over.version:\n            raise CheckpointMoved(now)\n",
        "        if now.token > token:\n            raise CheckpointMoved(now)\n",
        test=f"{_NOTES}[memory]",
    ),
    planted(
        "played: a version is used again",
        SQLITE,
        "value, token, (origin, serial))",
        "value, token, (origin, len(value)))",
        test=f"{_NOTES}[sqlite]",
    ),
    planted(
        "played: a conflict over a key is written over",
        KV,
        "                if now.version != over.version:\n"
        "                    raise CheckpointMoved(now) from None\n",
        "                condition = ABSENT if now.version is None else now.version\n",
        test=f"{_NOTES}[key-value]",
    ),
    planted(
        "played: a Lease is written over whatever is there",
        LEASES,
        "                if now.version != over.version:\n"
        "                    raise CheckpointMoved(now) from None\n",
        "                over = now\n",
        test=f"{_NOTES}[kubernetes]",
    ),
    planted(
        "played: a row is swapped without its version",
        SQL,
        " AND version = {text(str(over.version))}",
        "",
        test=f"{_NOTES}[sql]",
    ),
    # -- moved to another store
    planted(
        "migrate: checkpoints are taken along unsealed",
        CARRYING,
        "(await _written(source, found, None, sealed_with)).value",
        "found.value",
        test="tests/cli/test_carrying.py::test_what_is_under_way_is_taken_along_or_refused",
    ),
    planted(
        "migrate: checkpoints are written over those of a later term",
        CARRYING,
        "        if over.token > token:\n",
        "        if over.token < 0:\n",
        test="tests/cli/test_carrying.py::test_one_that_goes_on_late_moves_nothing_back",
    ),
    planted(
        "migrate: a checkpoint of an earlier life stays",
        CARRYING,
        "sorted(values.keys() | there.keys())",
        "sorted(values)",
        test="tests/cli/test_carrying.py::test_they_are_moved_and_sealed_on_both_sides",
    ),
    planted(
        "migrate: checkpoints are taken along before FROM is barred",
        MIGRATION,
        "            await self._bar_source()\n            where = await self.place()\n"
        "        if where is Place.BETWEEN:\n"
        "            self._compare_tokens()\n            await self._carry()\n",
        "            await self._carry()\n            await self._bar_source()\n"
        "            where = await self.place()\n        if where is Place.BETWEEN:\n",
        test="tests/cli/test_carrying.py::test_they_are_moved_and_sealed_on_both_sides",
    ),
    # -- the swap
    planted(
        "memory: a checkpoint is swapped by its token",
        MEMORY,
        "        if now.version != over.version:\n            raise CheckpointMoved(now)\n",
        "        if now.token > token:\n            raise CheckpointMoved(now)\n",
        test=f"{_MEMORY}{_REFUSED}",
    ),
    planted(
        "memory: a version of a checkpoint is used again",
        MEMORY,
        "value, token, self._next())",
        "value, token, hash((value, token)))",
        test=f"{_MEMORY}{_ANEW}",
    ),
    planted(
        "sqlite: a checkpoint is swapped without a comparison",
        SQLITE,
        "    if now.version != over.version:\n",
        "    if now.token > one.token:\n",
        test=f"{_SQLITE}{_REFUSED}",
    ),
    planted(
        "sqlite: a version of a checkpoint is used again",
        SQLITE,
        "value, token, (origin, serial))",
        "value, token, (origin, len(value)))",
        test=f"{_SQLITE}{_ANEW}",
    ),
    planted(
        "files: a checkpoint is swapped without a comparison",
        FILES,
        "                if now.version != over.version:\n",
        "                if now.token > token:\n",
        test=f"{_FILES}{_REFUSED}",
    ),
    planted(
        "files: two write a checkpoint at once",
        FILES,
        "            with alone(folder, self._path, BUSY_S):\n",
        "            if folder:\n",
        test="tests/stores/test_file.py::test_a_checkpoint_is_written_by_one_at_a_time",
    ),
    planted(
        "files: a checkpoint is confirmed before it is on the disk",
        FILES,
        "            os.fsync(fd)\n",
        "",
        test="tests/stores/test_file.py::test_a_checkpoint_that_is_confirmed_is_on_the_disk",
    ),
    planted(
        "files: a checkpoint is confirmed in a folder that was moved away",
        FILES,
        "        if not same:\n",
        "        if same is None:\n",
        test="tests/stores/test_file.py::test_a_checkpoint_in_a_folder_that_was_moved_is_unknown",
    ),
    planted(
        "keys: a conflict over a checkpoint is written over",
        KV,
        "                if now.version != over.version:\n"
        "                    raise CheckpointMoved(now) from None\n",
        "                condition = ABSENT if now.version is None else now.version\n",
        test=f"{_ETCD}{_REFUSED}",
    ),
    planted(
        "keys: long names are cut and not told apart",
        NAMING,
        ".{digest(name)}",
        ".",
        test=f"{_ETCD}{_LONG}",
    ),
    planted(
        "Redis: a checkpoint is swapped without a comparison",
        REDIS,
        "if nonce ~= wanted or (",
        "if false and (",
        test=f"{_REDIS}{_REFUSED}",
    ),
    planted(
        "Redis: what a restarted server has is the same version",
        REDIS,
        "or (wanted ~= '' and history ~= wanted_history) then\n",
        "then\n",
        test="tests/stores/test_redis.py"
        "::test_a_checkpoint_outlives_the_server_and_its_version_does_not",
    ),
    planted(
        "SQL: a checkpoint is swapped without a comparison",
        SQL,
        " AND version = {text(str(over.version))}",
        "",
        test=f"{_POSTGRESQL}{_REFUSED}",
    ),
    planted(
        "SQL: whatever is there was written by us",
        SQL,
        "    if now.version == version:\n",
        "    if now.version is not None:\n",
        test=f"{_POSTGRESQL}{_AT_ONCE}",
    ),
    # -- several together
    planted(
        "together: one that moved fails all, one by one",
        API,
        "                except StoreError as error:\n                    return error\n",
        "                except StoreError:\n                    raise\n",
        test=f"{_MEMORY}{_EACH}",
    ),
    planted(
        "together: what they came to is given in another order",
        API,
        "asyncio.gather(*map(outcome, advances))",
        "asyncio.gather(*map(outcome, sorted(advances, key=lambda one: one.over.part)))",
        test=f"{_MEMORY}{_TOGETHER}",
    ),
    planted(
        "sqlite: one that moved fails all",
        SQLITE,
        "    except (CheckpointMoved, StoreUnusable) as error:\n        return error\n",
        "    except StoreUnusable as error:\n        return error\n",
        test=f"{_SQLITE}{_EACH}",
    ),
    planted(
        "sqlite: one that moved is said to be written",
        SQLITE,
        "    except (CheckpointMoved, StoreUnusable) as error:\n        return error\n",
        "    except CheckpointMoved as error:\n        return error.checkpoint\n",
        test=f"{_SQLITE}{_EACH}",
    ),
    planted(
        "sqlite: of several the first alone is compared",
        SQLITE,
        "            return [_outcome(db, serial, one) for one in advances]\n",
        "            now = [_there(db, one.over.name, one.over.part) for one in advances]\n"
        "            over = [a.over if not number else now[number] for number, a in "
        "enumerate(advances)]\n"
        "            return [\n"
        "                _outcome(db, serial, Advance(at, one.value, one.token))\n"
        "                for at, one in zip(over, advances)\n"
        "            ]\n",
        test=f"{_SQLITE}{_EACH}",
    ),
    planted(
        "Redis: of several the rest is not compared",
        REDIS,
        "if nonce ~= wanted or (",
        "if at == 1 and nonce ~= wanted or (",
        test=f"{_REDIS}{_EACH}",
    ),
    planted(
        "Redis: one that moved is said to be written",
        REDIS,
        "    return now if now.version == ours else CheckpointMoved(now)\n",
        "    return now\n",
        test=f"{_REDIS}{_EACH}",
    ),
    planted(
        "SQL: what one came to is told of another",
        SQL,
        "    row = rows.get(over.part)\n",
        "    row = next(iter(rows.values()), None)\n",
        test=f"{_POSTGRESQL}{_TOGETHER}",
    ),
    planted(
        "SQL: one that moved is said to be written",
        SQL,
        "        return CheckpointMoved(now)\n",
        "        return now\n",
        test=f"{_POSTGRESQL}{_EACH}",
    ),
    planted(
        "SQL: all of a group have one version",
        SQL,
        "        versions = {number: self._chance(16) for number in wanted}\n",
        "        versions = dict.fromkeys(wanted, self._chance(16))\n",
        test=f"{_POSTGRESQL}{_ONE_PART}",
    ),
    planted(
        "SQL: two groups wait for each other",
        SQL,
        "key=lambda entry: entry[1].over.part)",
        "key=lambda entry: entry[0])",
        test="tests/stores/test_checkpoints.py"
        "::test_rows_are_locked_in_one_order_whoever_writes_them_together",
    ),
    planted(
        "Leases: a checkpoint that changes nothing is no write",
        LEASES,
        "value, token, mark)",
        'value, token, "")',
        test=f"{_KUBERNETES}{_ANEW}",
    ),
    planted(
        "Leases: a checkpoint is written over whatever is there",
        LEASES,
        "        if version != over.version:\n"
        "            now = await self.read(over.name, over.part)\n"
        "            if now.version != over.version:\n"
        "                raise CheckpointMoved(now)\n",
        "        if obj is not None:\n            await self.read(over.name, over.part)\n",
        test=f"{_KUBERNETES}{_REFUSED}",
    ),
    planted(
        "Leases: a checkpoint is listed as an election",
        WIRE,
        '        return CHECKPOINT_LABEL not in (obj["metadata"].get("labels") or {})\n',
        "        return True\n",
        test=f"{_KUBERNETES}{_NO_PART}",
    ),
)
