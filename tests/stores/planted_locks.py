"""Mistakes in the rules of other libraries' locks, and what finds each.

They are tried as those of `planted` are. Those in what these locks share are found by the
simulator, the others by a test on the real server. What is planted in the scripts of Redis is in
`tests.stores.test_redis_recipe`.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_LOCKS"]

BESIDE = "incumbent.stores.beside.store"
REDIS = "incumbent.stores.redis.recipe"
CONSUL = "incumbent.stores.consul.recipe"
FLOCK = "incumbent.stores.file.recipe"

_CONSUL = "tests/stores/test_consul_recipe.py::"
_FLOCK = "tests/stores/test_file_recipe.py::"
_REDIS = "tests/stores/test_redis_recipe.py::"

PLANTED_LOCKS: tuple[Mutant, ...] = (
    planted(
        "locks: a record without its lock is vacant",
        BESIDE,
        '    held = not record["vacant"]\n',
        '    held = not record["vacant"] and state.owner is Owner.OURS\n',
        store="beside",
    ),
    planted(
        "locks: what was just read is swapped, and not what was watched",
        BESIDE,
        "(name)\n        if state is None or not _same(_snapshot(name, state), over):\n",
        "(name)\n        if state is None or name:\n",
        BESIDE,
        "        if not _same(now, over) or state.owner in",
        "        if state.owner in",
        store="beside",
    ),
    planted(
        "locks: a renewal does not make the lock last",
        BESIDE,
        "state, record, Deed.KEEP, urgent=True)",
        "state, record, Deed.TOUCH, urgent=True)",
        store="beside",
    ),
    planted(
        "locks: a release names no term",
        BESIDE,
        "            if not stands(state, term):\n                return",
        "            if not isinstance(state.record, dict):\n                return",
        store="beside",
    ),
    planted(
        "locks: a bar is replaced whatever version it has",
        BESIDE,
        "            if over.bar is None or not _same(now, over):\n",
        "            if over.bar is None or now.bar is None:\n",
        test=f"{_REDIS}test_conformance[a_bar_is_replaced_at_exactly_its_version]",
    ),
    planted(
        "locks: a bar is put beside a holder of theirs",
        BESIDE,
        "            if bar is not None and state.owner not in (Owner.BARRED, Owner.FREE):\n",
        "            if bar is not None and state.owner is Owner.STRANGE:\n",
        test=f"{_REDIS}test_its_rules[a_bar_whose_key_is_gone]",
    ),
    planted(
        "redis-py: a bar whose key is gone is not known for one",
        REDIS,
        "    bar = None if record is None else wire.parse_bar(record)\n",
        "    bar = None\n",
        test=f"{_REDIS}test_its_rules[a_bar_whose_key_is_gone]",
    ),
    planted(
        "redis-py: a bar counts only beside a record that is believed",
        REDIS,
        "    elif value is not None and value.startswith(OUR_BAR):\n",
        "    elif value is not None and record and value.startswith(OUR_BAR):\n",
        test=f"{_REDIS}test_its_rules[a_bar_outlives_a_restart]",
    ),
    planted(
        "redis-py: tokens begin anew with the counter, below a bar's",
        REDIS,
        "        number = max(over.number, over.token or 0) + 1\n",
        "        number = over.number + 1\n",
        test=f"{_REDIS}test_its_rules[a_bar_outlives_the_counter]",
    ),
    planted(
        "consul lock: a session is enough, whoever has the key",
        CONSUL,
        '            operations.insert(0, {"Verb": "check-session", **key})\n',
        "            pass\n",
        test=f"{_CONSUL}test_a_renewal_is_refused_when_the_key_is_theirs_though_the_session_lives",
    ),
    planted(
        "consul lock: no lock-delay",
        CONSUL,
        'f"{round(ttl_s * 1000)}ms"',
        '"0s"',
        test=f"{_CONSUL}test_a_session_that_is_ended_refuses_the_holder_and_keeps_theirs_out",
    ),
    planted(
        "consul lock: a semaphore is taken for a lock",
        CONSUL,
        "    if item is not None and item.flags != LOCK_FLAGS:\n",
        "    if item is not None and item.flags == -1:\n",
        test=f"{_CONSUL}test_a_semaphore_is_left_alone",
    ),
    planted(
        "flock: a free lock ends the term on whatever file",
        FLOCK,
        '            same = record["inode"] == inode\n',
        "            same = True\n",
        test=f"{_FLOCK}test_a_free_lock_ends_the_term_only_on_the_file_that_it_had",
    ),
    planted(
        "flock: a term that lapses unlocks for its children",
        FLOCK,
        "            self._held.pop(term).close()\n",
        "            self._let_go(term)\n",
        test=f"{_FLOCK}test_a_child_that_inherited_the_lock_keeps_it",
    ),
    planted(
        "flock: a release leaves the lock to the children",
        FLOCK,
        "                fcntl.flock(grip.spare, fcntl.LOCK_UN)\n",
        "                pass\n",
        test=f"{_FLOCK}test_a_release_unlocks_for_all_who_inherited_the_lock",
    ),
    planted(
        "flock: a record confirms, without a look at the lock",
        FLOCK,
        "not (now.owner is Owner.OURS and self._is_kept(lock, term))",
        "term not in self._held",
        test=f"{_FLOCK}test_a_lock_that_somebody_gave_up_for_us_refuses_the_renewal",
    ),
    planted(
        "flock: what was renewed lapses",
        FLOCK,
        "            before.cancel()\n",
        "            pass\n",
        FLOCK,
        "        if grip is not None and boottime() >= grip.until:\n",
        "        if grip is not None:\n",
        test=f"{_FLOCK}test_who_is_renewed_does_not_lapse",
    ),
)
