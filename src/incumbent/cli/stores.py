"""`incumbent stores`: what is installed, and what each store can do and assumes.

The table is made of the stores' own declarations (`stores.api.Capabilities`); no store is connected
to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import console, draw, require_rich, table, write_json
from incumbent.errors import ConfigError, IncumbentError, MissingExtra
from incumbent.stores.api import Capabilities, StoreURL

__all__ = ["Installed", "command", "installed"]

GROUP = "incumbent.stores"


@dataclass(frozen=True, slots=True)
class Installed:
    """A store that is registered, what it declares, and why it cannot be used, if so."""

    scheme: str
    capabilities: Capabilities | None
    problem: str = ""


def installed() -> list[Installed]:
    """Return every registered store, by scheme."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return [_inspect(point) for point in points]


def _inspect(point: EntryPoint) -> Installed:
    """Read the declaration in the store's module, or of a class in it, and try to make a store.

    A store that is made is not connected to anything; that it wants more than a scheme is no fault.
    """
    declared: Capabilities | None = None
    try:
        opener = point.load()
        for value in list(vars(sys.modules[opener.__module__]).values()):
            found = value if isinstance(value, Capabilities) else _of(value)
            if found is not None and found.scheme == point.name:
                declared = found
        made = opener(StoreURL(point.name)).capabilities
        return Installed(point.name, declared or made)
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


@click.command("stores")
@common(store=False)
def command(options: Options) -> int:
    """List the stores that are installed, what each can do, and what it assumes."""
    if not options.json:
        require_rich()
    found = installed()
    if options.json:
        write_json({"stores": [_json(store) for store in found]})
    else:
        _draw(found)
    return codes.OK


def _json(store: Installed) -> dict[str, Any]:
    have = store.capabilities
    head = {
        "scheme": store.scheme,
        "available": not store.problem,
        "problem": store.problem or None,
    }
    if have is None:
        return head
    return {
        **head,
        "grade": have.grade.value,
        "assumes": have.assumes,
        "token": have.token,
        "sessions": have.sessions,
        "one_host": have.one_host,
        "whole_seconds": have.whole_seconds,
        "absent_is_vacant": have.absent_is_vacant,
        "judged_by": have.judged_by,
        "confirmed_by": have.confirmed_by,
        "wakes_by": have.wakes_by,
        "evidence": have.evidence or None,
    }


def _draw(found: list[Installed]) -> None:
    """Draw a column per store: there are few stores and many properties."""
    from rich.text import Text

    out = console()
    usable = [(store.scheme, store.capabilities) for store in found if store.capabilities]
    columns = [f"{scheme}://" for scheme, _ in usable]
    rows = table("", *columns, wrap=columns)
    properties: tuple[tuple[str, Callable[[Capabilities], str]], ...] = (
        ("a term is", lambda have: have.grade.value),
        ("if", lambda have: have.assumes),
        ("fencing token", lambda have: "yes" if have.token else "no"),
        ("candidates", lambda have: "of one host" if have.one_host else "of many hosts"),
        ("expiry judged by", lambda have: have.judged_by),
        ("renewal confirmed by", lambda have: have.confirmed_by),
        ("standbys wake by", lambda have: have.wakes_by),
        ("evidence of death", lambda have: have.evidence or "none: the TTL is waited out"),
        ("renewed together", lambda have: "yes" if have.sessions else "each election by itself"),
        ("TTL", lambda have: "whole seconds" if have.whole_seconds else "any"),
    )
    for label, of in properties:
        rows.add_row(Text(label, style="bold"), *(of(have) for _, have in usable))
    draw(rows)
    for store in found:
        if store.problem:
            out.print(f"\n{store.scheme}://  {store.problem}", soft_wrap=True)
