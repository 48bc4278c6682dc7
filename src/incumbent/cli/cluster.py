"""`incumbent status --cluster`: every election of a namespace, with Pods, nodes and ages.

What an age is worth stands at the head of `stores.kubernetes.survey`, which
reads; here it is drawn.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from incumbent.cli import codes
from incumbent.cli.options import Options
from incumbent.cli.output import show, write_json
from incumbent.cli.progress import Progress
from incumbent.cli.records import as_json, note
from incumbent.cli.session import REQUEST_S
from incumbent.core.records import Holding
from incumbent.errors import ConfigError, StoreUnavailable
from incumbent.stores.api import missing_extra

if TYPE_CHECKING:
    from incumbent.stores.kubernetes.survey import Election, Survey

__all__ = ["Place", "is_plugin", "status"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look.

    Attributes:
        namespace: "" for that of the context, or of our own Pod.
        everywhere: in all namespaces.
        context: of the kubeconfig.
        kubeconfig: its path.
    """

    namespace: str = ""
    everywhere: bool = False
    context: str = ""
    kubeconfig: str = ""


def is_plugin() -> bool:
    """Tell whether we were called as `kubectl incumbent`."""
    return Path(sys.argv[0]).name.startswith("kubectl-")


def status(options: Options, place: Place, name: str | None, *, wide: bool) -> int:
    """Show the elections of a place, or NAME alone; return the exit code.

    With NAME that is 1 unless it is held, and was renewed within its time.
    """
    if place.namespace and place.everywhere:
        raise ConfigError("either --namespace or --all-namespaces: both is too much")
    found = asyncio.run(_look(options, place))
    shown = [each for each in found.elections if name in (None, each.snapshot.name)]
    if not options.quiet:
        for text in found.notes:
            print(f"incumbent: not looked at: {text}", file=sys.stderr)
    if options.json:
        at = None if found.at is None else _stamp(found.at)
        rows = [_as_json(each) for each in shown]
        write_json({"server": found.server, "at": at, "elections": rows})
    elif shown:
        _draw(shown, everywhere=place.everywhere, wide=wide)
    else:
        where = "any namespace" if place.everywhere else "this namespace"
        print(f"no {f'election {name!r}' if name else 'elections'} in {where}", file=sys.stderr)
    if name is None:
        return codes.OK
    good = [each.snapshot.holding is Holding.HELD and not each.stale for each in shown]
    return codes.OK if good and all(good) else codes.NOT_SO


async def _look(options: Options, place: Place) -> Survey:
    try:
        from incumbent.stores.kubernetes.client import Client
    except ModuleNotFoundError as error:
        raise missing_extra("kubernetes", "kubernetes", error) from None
    from incumbent.stores.kubernetes.config import load
    from incumbent.stores.kubernetes.survey import survey

    connection = load(
        kubeconfig=place.kubeconfig,
        context=place.context,
        say_by=("--kubeconfig PATH", "--context NAME"),
    )
    namespace = "" if place.everywhere else place.namespace or connection.namespace
    client = Client(connection, namespace)
    try:
        async with Progress("reading the cluster", quiet=options.quiet):
            async with asyncio.timeout(REQUEST_S):
                return await survey(client)
    except TimeoutError:
        text = f"the API server {client.url} gave no answer within {REQUEST_S:g} s"
        raise StoreUnavailable(text) from None
    finally:
        await client.close()


# -- for programs ----------------------------------------------------------------------------------


def _as_json(election: Election) -> dict[str, Any]:
    pod = election.pod
    return {
        "namespace": election.namespace,
        **as_json(election.snapshot),
        "kind": election.kind,
        "stale": election.stale,
        "acquired": _stamp(election.acquired),
        "term_age_s": election.term_age_s,
        "renewed": _stamp(election.renewed),
        "renewal_age_s": election.renewal_age_s,
        "pod": None
        if pod is None
        else {
            "name": pod.name,
            "uid": pod.uid or None,
            "node": pod.node or None,
            "phase": pod.phase or None,
            "ready": pod.ready,
            "ending": pod.ending,
        },
        "standbys": list(election.standbys),
    }


def _stamp(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


# -- for people ------------------------------------------------------------------------------------


def _draw(elections: list[Election], *, everywhere: bool, wide: bool) -> None:
    from rich.text import Text

    rows = []
    for each in elections:
        snapshot, pod = each.snapshot, each.pod
        held = snapshot.holding is Holding.HELD
        state = "stale" if each.stale else snapshot.state
        style = {"held": "green", "stale": "bold red", "foreign": "bold red"}.get(state, "yellow")
        cells: dict[str, Any] = {
            "namespace": each.namespace,
            "election": snapshot.name,
            "state": Text(state, style=style),
            "holder": _holder(each),
            "node": pod.node if pod is not None else "",
            "term": _age(each.term_age_s),
            "renewed": f"{_age(each.renewal_age_s)} ago" if each.renewal_age_s is not None else "",
            "token": "" if snapshot.token is None else str(snapshot.token),
            "standbys": (len(each.standbys) if pod is not None and pod.phase else ""),
            "TTL": f"{snapshot.ttl_s:g} s" if held else "",
            "kind": each.kind,
            "identity": snapshot.holder if held else "",
            "beside": ", ".join(each.standbys),
            "note": "; ".join(filter(None, [_of_pod(each), note(snapshot)])),
        }
        rows.append(
            {head: str(cell) if isinstance(cell, int) else cell for head, cell in cells.items()}
        )
    heads = [head for head in rows[0] if everywhere or head != "namespace"]
    if not wide:
        heads = [head for head in heads if head not in ("TTL", "kind", "identity", "beside")]
    heads = [head for head in heads if head != "note" or any(row["note"] for row in rows)]
    show([[row[head] for head in heads] for row in rows], *heads, wrap=("identity", "note"))


def _holder(election: Election) -> str:
    if election.snapshot.holding is not Holding.HELD:
        return ""
    return election.pod.name if election.pod is not None else election.snapshot.holder


def _of_pod(election: Election) -> str:
    """Return what is to be said of the holder's Pod."""
    pod = election.pod
    if pod is None:
        return ""
    if not pod.phase:
        return "there is no such Pod; its process may run on"
    if pod.ending:
        return "its Pod is ending"
    return "" if pod.phase == "Running" else f"its Pod is {pod.phase}"


def _age(age_s: float | None) -> str:
    """Return a duration as kubectl writes it: the two greatest units, and one when it is long."""
    if age_s is None:
        return ""
    seconds = int(age_s)
    if seconds < 120:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{seconds}s" if seconds else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes}m" if minutes and hours < 8 else f"{hours}h"
    return f"{hours // 24}d"
