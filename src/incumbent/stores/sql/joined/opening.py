"""What a URL says of the lock to join, and what each recipe declares.

…?recipe=shedlock&lock=TASK&table=shedlock
…?recipe=spring&lock=NAME&prefix=INT_&region=DEFAULT
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from incumbent.errors import ConfigError
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Grade
from incumbent.stores.recipes import LockName, recipe_of
from incumbent.stores.sql.api import Tables
from incumbent.stores.sql.base import LOOKS_PER_TTL
from incumbent.stores.sql.joined.api import Clocked
from incumbent.stores.sql.joined.statements import ALL, OURS, create
from incumbent.stores.sql.joined.tables import LockTable, shedlock, spring

__all__ = ["OPTIONS", "RECIPES", "Joined", "capabilities", "joined"]

OPTIONS = ("recipe", "lock", "table", "prefix", "region")
"""Of a URL, besides those that lead to the database."""

_MADE: dict[str, tuple[Callable[..., LockTable], frozenset[str]]] = {
    "shedlock": (shedlock, frozenset({"table"})),
    "spring": (spring, frozenset({"prefix", "region"})),
}
RECIPES = tuple(_MADE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_REGION = re.compile(r"[-A-Za-z0-9 _./:]{1,100}")

_PARTNERS = {"shedlock": "ShedLock", "spring": "Spring Integration"}
_BREAKS = {
    "shedlock": (
        "takes our lock early if its clock is ahead of the database's, and overlaps with our term "
        "if it is behind by more than 5 s; frees our lock, or a bar of ours, when it unlocks late "
        "by its own clock, which names no owner; works on beside us when its task outlives "
        "lockAtMostFor. It has no token, so no fence stops its writes"
    ),
    "spring": (
        "takes our lock early if its clock is ahead of the database's, and overlaps with our term "
        "if it is behind by more than 5 s; works on beside us when its work outlives the time to "
        "live, which it finds out at its next renewal or when it unlocks. It has no token, so no "
        "fence stops its writes"
    ),
}


def capabilities(scheme: str, recipe: str) -> Capabilities:
    """Return what a recipe declares."""
    return Capabilities(
        scheme=scheme,
        sessions=False,
        token=True,
        judged_by="observers",
        confirmed_by="a committed UPDATE of our row and of the lock's",
        wakes_by="a query several times a TTL, one for all elections",
        evidence="",
        absent_is_vacant=True,
        whole_seconds=False,
        one_host=False,
        grade=Grade.EXCLUSIVE_WITH_FENCING,
        assumes=(
            "of our candidates: one primary at a time, which loses no confirmed commit at a "
            "failover, nobody drops the tables, and clock rates differ by no more than rho"
        ),
        survives=ON_ONE_SERVER,
        one_process=False,
        unseen_ttls=1 / LOOKS_PER_TTL,
        takeover_trips=3,
        bars=True,
        checkpoints=False,
        renews=True,
        queue=False,
        label_names=False,
        reads=True,
        partner=_PARTNERS[recipe],
        partner_breaks=_BREAKS[recipe],
    )


@dataclass(frozen=True, slots=True)
class Joined:
    """The lock that a URL names.

    Attributes:
        table: where it is.
        lock: what it is called, by the election.
        query: the options that say so, for messages.
    """

    table: LockTable
    lock: LockName
    query: str

    def tables(self, dialect: Clocked) -> Tables:
        """Return what must be in the database."""
        there = self.table
        times = dict.fromkeys((there.since, there.until), "CURRENT_TIMESTAMP")
        keys = dict.fromkeys((*there.key("x"), there.owner), "''")
        numbers = ("serial", "format", "held", "token", "ttl_s")
        ours = {column: "0" if column in numbers else "''" for column in ALL}
        change = ("SELECT", "INSERT", "UPDATE")
        return Tables(
            format_in=OURS,
            create=create(dialect),
            needed={OURS: change, there.table: change if there.keeps else (*change, "DELETE")},
            theirs={there.table: there.missing(dialect)},
            columns={OURS: ours, there.table: {**keys, **times}},
        )


def joined(scheme: str, options: dict[str, str]) -> Joined | None:
    """Take `OPTIONS` out of a URL's; return None where it names no recipe.

    Raises:
        ConfigError: there is no such recipe, or an option of another one, or a name that cannot be.
    """
    given = {key: options.pop(key) for key in OPTIONS if key in options}
    recipe = recipe_of(scheme, given, RECIPES)
    make, known = _MADE.get(recipe, (None, frozenset()))
    for key in sorted(set(given) - {"recipe", "lock"} - known):
        raise ConfigError(f"{scheme}://: {key}= does not go with recipe={recipe or '(none)'}")
    if make is None:
        return None
    own = {key: given[key] for key in known if key in given}
    for key, value in own.items():
        if not (_REGION if key == "region" else _NAME).fullmatch(value):
            raise ConfigError(f"{scheme}://: {key}={value!r} cannot be part of the table's name")
    query = "&".join(f"{key}={value}" for key, value in given.items())
    name = LockName(given["lock"]) if "lock" in given else LockName()
    return Joined(make(**own), name, query)
