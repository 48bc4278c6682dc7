"""`incumbent stores`: what is installed, and what each store can do and assumes.

All of it is made of the stores' own declarations (`stores.api.Capabilities`); no store is connected
to. The tables have the cells that are short, for all stores; the rest is text and told of one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from textwrap import fill
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import console, draw, require_rich, table, write_json
from incumbent.errors import ConfigError, IncumbentError, MissingExtra, UnknownScheme
from incumbent.stores import OURS, open_store
from incumbent.stores.api import Capabilities, Fault, Grade, StoreURL

__all__ = ["Installed", "command", "installed"]

GROUP = "incumbent.stores"


@dataclass(frozen=True, slots=True)
class Installed:
    """A store, what it declares, and why it cannot be used, if so.

    A set-up in which a store has other capabilities is one of its own: `kubernetes?session=1`.
    """

    scheme: str
    capabilities: Capabilities | None
    problem: str = ""


def installed() -> list[Installed]:
    """Return every registered store, by scheme, and after it what it lists as set-ups."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return [found for point in points for found in _with_set_ups(point)]


def _with_set_ups(point: EntryPoint) -> list[Installed]:
    store = _inspect(point)
    try:
        opener = point.load()
        more: dict[str, Capabilities] = getattr(sys.modules[opener.__module__], "set_ups", dict)()
    except (ImportError, AttributeError, IncumbentError):  # It is said what is the matter.
        return [store]
    set_ups = (replace(store, scheme=f"{point.name}?{o}", capabilities=c) for o, c in more.items())
    return [store, *set_ups]


def _inspect(point: EntryPoint) -> Installed:
    """Try to make a store, which is not connected to anything, and return what it declares.

    Where none can be made of a scheme alone, the declaration is read in its module, or of a class
    in it: the first, for what follows are those of particular set-ups.
    """
    declared: Capabilities | None = None
    try:
        opener = point.load()
        for value in list(vars(sys.modules[opener.__module__]).values()):
            found = value if isinstance(value, Capabilities) else _of(value)
            if found is not None and found.scheme == point.name:
                declared = declared or found
        return Installed(point.name, opener(StoreURL(point.name)).capabilities)
    except MissingExtra as error:
        return Installed(point.name, declared, f"needs extra {point.name}: {error}")
    except ConfigError as error:
        problem = "" if declared is not None else f"cannot be loaded: {error}"
        return Installed(point.name, declared, problem)
    except ModuleNotFoundError as error:
        return Installed(point.name, None, f"needs extra {point.name} ({error.name})")
    except (ImportError, AttributeError, TypeError, IncumbentError) as error:
        return Installed(point.name, None, f"cannot be loaded: {error}")


def _of(value: object) -> Capabilities | None:
    found = getattr(value, "capabilities", None)
    return found if isinstance(found, Capabilities) else None


def _named(name: str) -> Installed:
    """Return the store with this scheme, which may be another word for one that is registered.

    Raises:
        UnknownScheme: there is none.
    """
    scheme = name.lower().removesuffix("://")
    for found in installed() if "?" in scheme else ():
        if found.scheme == scheme:
            return found
    points = entry_points(group=GROUP)
    for point in points:
        if point.name == scheme or point.module == OURS.get(scheme):
            return _inspect(point)
    known = ", ".join(sorted(point.name for point in points))
    raise UnknownScheme(f"no store is called {name!r}; installed: {known}")


@click.command("stores")
@click.argument("name", required=False)
@common()
def command(options: Options, name: str | None) -> int:
    """List the stores that are installed, and what each can do.

    With a NAME, or the URL of a set-up, say everything about that one, and what it assumes.
    """
    if not options.json:
        require_rich()
    url = options.store if name is None else name if "://" in name else None
    if url is not None:
        made = open_store(url).capabilities
        found = [Installed(made.scheme, made)]
    elif name is not None:
        found = [_named(name)]
    else:
        found = installed()
    if options.json:
        write_json({"stores": [_json(store) for store in found]})
    elif url is None and name is None:
        _draw_all(found, legend=not options.quiet)
    else:
        _draw_one(found[0])
    return codes.OK


def _json(store: Installed) -> dict[str, Any]:
    """Return every cell, by its own name."""
    told: dict[str, Any] = {
        "scheme": store.scheme,
        "available": not store.problem,
        "problem": store.problem or None,
    }
    if store.capabilities is not None:
        for cell in fields(store.capabilities):
            told.setdefault(cell.name, _plain(getattr(store.capabilities, cell.name)))
    return told


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return [fault.value for fault in Fault if fault in value]
    return value if value != "" else None


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _candidates(have: Capabilities) -> str:
    return "of one process" if have.one_process else "of one host" if have.one_host else "any"


def _list(faults: frozenset[Fault]) -> str:
    return ", ".join(fault.value for fault in Fault if fault in faults) or "nothing"


Cells = tuple[tuple[str, Callable[[Capabilities], str]], ...]


def _renews(have: Capabilities) -> str:
    return "no" if not have.renews else "process" if have.sessions else "election"


_GRADES = {
    Grade.EXCLUSIVE_IN_STORE: "in store",
    Grade.EXCLUSIVE_WITH_FENCING: "fencing",
    Grade.EFFICIENCY_ONLY: "efficiency",
}
_SHORT: Cells = (
    ("grade", lambda have: _GRADES[have.grade]),
    ("token", lambda have: _yes(have.token)),
    ("renews", _renews),
    ("judged by", lambda have: have.judged_by),
    ("absent", lambda have: "vacant" if have.absent_is_vacant else "waits"),
    ("TTL", lambda have: "whole s" if have.whole_seconds else "any"),
    ("hosts", lambda have: "one" if have.one_host else "many"),
    ("proof", lambda have: _yes(bool(have.evidence))),
)
_LEGEND = {
    "grade": "what a term is worth: fencing, exclusive if what is written to compares tokens; "
    "in store, exclusive for what is kept in it; efficiency, two may lead at once",
    "token": "each term has a fencing token, greater than those before",
    "renews": "what one renewal keeps: all elections of a process, or one election; no: a term "
    "ends by plan",
    "judged by": "who decides that a holder is gone",
    "absent": "an election without a record is vacant at once, or a newcomer waits for a TTL",
    "TTL": "any number of seconds, or whole ones",
    "hosts": "candidates may be on one host, or on many",
    "proof": "a proof of death shortens the wait for the TTL",
    "speaks": "whose members may be beside ours on one lock",
}
"""What a column of the tables means; the faults say it of themselves."""
_COMPAT: Cells = (
    ("speaks", lambda have: have.partner),
    ("grade", lambda have: _GRADES[have.grade]),
    ("token", lambda have: _yes(have.token)),
    ("renews", _renews),
)
_FAULTS = {
    Fault.HOLDER_KILLED: "kill",
    Fault.HOLDER_PAUSED: "pause",
    Fault.NETWORK_CUT: "cut",
    Fault.CONNECTION_KILLED: "conn",
    Fault.SERVER_PAUSED: "stall",
    Fault.SERVER_RESTARTED: "restart",
    Fault.SERVER_ISOLATED: "alone",
    Fault.SERVER_EMPTIED: "empty",
    Fault.REPLICA_PROMOTED: "lag",
}
_WHAT = {True: ": all elections of a process", False: ": each election by itself"}
_MOVED = {True: ": to and from, by `incumbent migrate`", False: ": its elections cannot be barred"}
_KEPT = {True: "yes: how far the work has come", False: "no: name another store for them, state="}
_NEW = {True: "is vacant at once", False: "is waited for: one TTL at the very first start"}
_READS = {True: "can be read", False: "is told to nobody: who only looks is refused"}
_ONCE = "none: a term ends in time to stop the work, and the election is open again"
_NAMES = {True: "a DNS label: no dots, 63 characters at most", False: "any: up to 200 characters"}
_LONG: Cells = (
    ("speaks", lambda have: f"the format of {have.partner}" if have.partner else "our own format"),
    ("a term is", lambda have: have.grade.value),
    ("if", lambda have: have.assumes),
    ("a member of theirs", lambda have: have.partner_breaks or "there is none"),
    ("fencing token", lambda have: _yes(have.token)),
    ("candidates", _candidates),
    ("expiry judged by", lambda have: have.judged_by),
    ("renewal confirmed by", lambda have: have.confirmed_by if have.renews else _ONCE),
    ("renewed together", lambda have: _yes(have.sessions) + _WHAT[have.sessions]),
    ("can be moved", lambda have: _yes(have.bars) + _MOVED[have.bars]),
    ("checkpoints", lambda have: _KEPT[have.checkpoints]),
    ("who holds", lambda have: _READS[have.reads]),
    ("standbys wake by", lambda have: have.wakes_by),
    ("proof of death", lambda have: have.evidence or "none: the TTL is waited out"),
    ("a new election", lambda have: _NEW[have.absent_is_vacant]),
    ("TTL", lambda have: "whole seconds" if have.whole_seconds else "any"),
    ("an election's name", lambda have: _NAMES[have.label_names]),
    ("survives", lambda have: _list(have.survives)),
    ("not promised", lambda have: _list(frozenset(Fault) - have.survives)),
)


def _survives(fault: Fault, have: Capabilities) -> str:
    return "yes" if fault in have.survives else "-"


_BELOW = ("judged by",)
"""Columns for which there is room only where the stores differ."""


def _same(of: Callable[[Capabilities], str], usable: list[tuple[str, Capabilities]]) -> str:
    """Return what all stores have in a cell, or "" if they differ."""
    found = {of(have) for _, have in usable}
    return found.pop() if len(found) == 1 else ""


def _below(scheme: str) -> str:
    """Return how a row is called that stands below that of its store, if it is a set-up."""
    _, option, which = scheme.partition("?")
    return f"  {option}{which}" if option else scheme


def _legend() -> str:
    """Return what the columns mean, on lines that are no wider than the tables."""
    faults = ", ".join(f"{word} = {fault.value}" for fault, word in _FAULTS.items())
    told = {**_LEGEND, "survives": f"no two holders, and tokens that grow, after: {faults}"}
    width = max(map(len, told)) + 2
    return "\n".join(
        fill(f"{label:<{width}}{text}", 79, subsequent_indent=" " * width)
        for label, text in told.items()
    )


def _draw_all(found: list[Installed], *, legend: bool) -> None:
    """Draw a row per store, in tables that are no wider than 80 columns."""
    usable = [(store.scheme, store.capabilities) for store in found if store.capabilities]
    ours = [(_below(scheme), have) for scheme, have in usable if not have.partner]
    compat = [(_below(scheme), have) for scheme, have in usable if have.partner]
    survives: Cells = tuple((word, partial(_survives, fault)) for fault, word in _FAULTS.items())
    for title, cells, stores in (
        ("store", _SHORT, ours),
        ("survives", survives, ours),
        ("shared with others", _COMPAT, compat),
    ):
        if not stores:
            continue
        below = {label: _same(of, stores) for label, of in cells if label in _BELOW}
        differing = [(label, of) for label, of in cells if not below.get(label)]
        rows = table(title, *(label for label, _ in differing))
        heading = ""
        for scheme, have in stores:
            if scheme != have.scheme != heading:
                rows.add_row(have.scheme)
            heading = have.scheme
            rows.add_row(scheme, *(of(have) for _, of in differing))
        draw(rows)
        for label, what in below.items():
            if what:
                print(f"all are {label} {what}")
        print()
    if legend:
        print(_legend())
    for store in found:
        if store.problem:
            console().print(f"{store.scheme}://  {store.problem}", soft_wrap=True)
    print("`incumbent stores NAME` says everything about one, and what it assumes.")


def _draw_one(store: Installed) -> None:
    from rich.text import Text

    if store.capabilities is not None:
        title = store.scheme.replace("?", "://?") if "?" in store.scheme else f"{store.scheme}://"
        rows = table("", title, wrap=[title])
        for label, of in _LONG:
            rows.add_row(Text(label, style="bold"), of(store.capabilities))
        draw(rows)
    if store.problem:
        console().print(f"{store.scheme}://  {store.problem}", soft_wrap=True)
