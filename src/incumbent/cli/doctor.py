"""`incumbent doctor`: everything here that could break the promise, and what to change.

Verdicts are three: fine, not fine, and *cannot be told*, which is no failure but is said. The store
looks at itself (`Store.examine`), the host is looked at by `host`, and what lies between the two is
here: does a round trip fit into the time that a renewal has?
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import click

from incumbent.cli import codes, host
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import console, draw, require_rich, table, write_json
from incumbent.cli.progress import Progress
from incumbent.cli.session import connected, requested
from incumbent.cli.status import confirm
from incumbent.cli.wording import in_options
from incumbent.clock import boottime
from incumbent.core.records import Holding, check_name
from incumbent.core.timing import DEFAULT_RHO, DEFAULT_TTL_S, Timing
from incumbent.errors import (
    ConfigError,
    IncumbentError,
    StoreAbsent,
    StoreError,
    StoreUnavailable,
    UnknownScheme,
)
from incumbent.stores import open_store
from incumbent.stores.api import ByElection, Finding, Store, unreached

__all__ = ["command"]

ROUND_TRIPS = 5
_VERDICTS = {True: "ok", False: "not ok", None: "unknown"}
_FOUND = "found, and what to change"
_STYLES = {True: "green", False: "bold red", None: "yellow"}


def _elsewhere(_: click.Context, __: click.Parameter, asked: bool) -> None:
    """Say who looks at a cluster: other commands have the option, and it is tried here, too."""
    if asked:
        raise click.UsageError(
            "doctor looks at this host and one store: `incumbent audit --cluster` judges what runs "
            "in a cluster, `incumbent status --cluster` shows what is elected there, and for a "
            "cluster as the store it is `incumbent doctor --store kubernetes://`"
        )


@click.command("doctor")
@click.argument("name", required=False)
@seconds("--ttl", "ttl_s", help=f"Time to live to check for [INCUMBENT_TTL, {DEFAULT_TTL_S:g}].")
@seconds("--grace", "grace_s", help="Grace to check for [INCUMBENT_GRACE, a fifth].")
@click.option(
    "--rho", type=float, metavar="SHARE", help=f"Greatest clock-rate error [{DEFAULT_RHO:g}]."
)
@click.option("--cluster", is_flag=True, hidden=True, expose_value=False, callback=_elsewhere)
@common()
def command(
    options: Options,
    name: str | None,
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
) -> int:
    """Look for what could break the promise on this host and in the store.

    With NAME the election is looked at, too, for up to its TTL. Exits with 1 if anything is not ok.
    """
    if not options.json:
        require_rich()
    if name is not None:
        check_name(name)
    checked_ttl_s = _setting("INCUMBENT_TTL", ttl_s)
    checked_ttl_s = DEFAULT_TTL_S if checked_ttl_s is None else checked_ttl_s
    checked_rho = _setting("INCUMBENT_RHO", rho)
    checked_rho = DEFAULT_RHO if checked_rho is None else checked_rho
    checked_grace_s = _setting("INCUMBENT_GRACE", grace_s)

    def plan(whole_seconds: bool) -> Timing:
        with in_options(ttl_s=ttl_s, grace_s=grace_s, rho=rho):
            return Timing.plan(
                checked_ttl_s,
                grace_s=checked_grace_s,
                rho=checked_rho,
                whole_seconds=whole_seconds,
            )

    groups = asyncio.run(_examine(options, name, checked_ttl_s, checked_rho, plan))
    ok = all(finding.ok is not False for _, findings in groups for finding in findings)
    if options.json:
        write_json({"ok": ok, "findings": [_json(g, f) for g, found in groups for f in found]})
    else:
        _draw(groups, options)
    return codes.OK if ok else codes.NOT_SO


def _setting(variable: str, given: float | None) -> float | None:
    text = os.environ.get(variable)
    if given is not None or not text:
        return given
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is not a number") from None


Groups = list[tuple[str, list[Finding]]]


Plan = Callable[[bool], Timing]
"""Makes the timing for a store that keeps the TTL in whole seconds, or not."""


async def _examine(
    options: Options, name: str | None, ttl_s: float, rho: float, plan: Plan
) -> Groups:
    async with Progress("looking", quiet=options.quiet) as progress:
        groups: Groups = [
            ("host", [host.python(), *host.kernel(), host.containment()]),
            ("clock", host.clock(rho)),
        ]
        store, found = _choose(options)
        whole_seconds = store is not None and store.capabilities.whole_seconds
        renews = store is None or store.capabilities.renews
        timing, settings = _plan(plan, whole_seconds, renews=renews)
        groups.append(("settings", [*found, settings]))
        if store is not None:
            groups.append(("store", await _store(store, name, timing, progress)))
        if store is not None and name is not None and groups[-1][1][0].ok:
            progress.text = f"watching {name} for a sign of life"
            groups.append(("election", await _election(store, name, ttl_s)))
    return groups


def _choose(options: Options) -> tuple[Store | None, list[Finding]]:
    """Return the store that would be used here, and what is to be said of the choice."""
    if options.store:
        said = "--store"
    elif os.environ.get("INCUMBENT_STORE"):
        said = "INCUMBENT_STORE"
    else:
        said = "the default: one file for this user on this host"
    try:
        store = open_store(options.url())
    except UnknownScheme as error:
        return None, [Finding("store URL", False, str(error), "see `incumbent stores`")]
    except ConfigError as error:  # It says itself what to change.
        return None, [Finding("store URL", False, str(error))]
    have = store.capabilities
    return store, [
        Finding("store URL", True, f"{store.url} ({said})"),
        Finding("worth", True, f"{have.grade.value}, if {have.assumes}"),
    ]


def _plan(plan: Plan, whole_seconds: bool, *, renews: bool) -> tuple[Timing | None, Finding]:
    try:
        timing = plan(whole_seconds)
    except ConfigError as error:
        text, _, fix = str(error).partition(": ")
        return None, Finding("timing", False, text, fix or "see --ttl and --grace")
    return timing, Finding("timing", True, timing.explain(renews=renews))


async def _store(
    store: Store, name: str | None, timing: Timing | None, progress: Progress
) -> list[Finding]:
    """Look at the store; where it cannot be opened, at what can be seen of it all the same.

    So are the rights of whoever would have to create what is not there yet, or may not even look.
    """
    progress.text = f"connecting to {store.url}"
    show_log(lambda _: None)
    try:
        try:
            await requested(store, store.open(create=False))
        except StoreAbsent as error:
            return [Finding("connection", None, str(error)), *await _wrong(store, name)]
        except StoreUnavailable as error:
            return [Finding("connection", False, str(error), "check the URL and the network")]
        except StoreError as error:  # It says itself what to change.
            return [Finding("connection", False, str(error)), *await _wrong(store, name)]
        findings = [Finding("connection", True, f"{store.url} answers")]
        progress.text = f"examining {store.url}"
        try:
            findings += await requested(store, _examined(store, name))
        except StoreError as error:
            return [*findings, unreached(error)]
        if timing is not None and store.capabilities.renews:
            findings.append(await _round_trip(store, timing))
        return findings
    finally:
        await store.close()


def _examined(store: Store, name: str | None) -> Awaitable[list[Finding]]:
    """Look at the store; where a right may be one to this election alone, at that one."""
    if name is not None and isinstance(store, ByElection):
        return store.examine_election(name)
    return store.examine()


async def _wrong(store: Store, name: str | None) -> list[Finding]:
    """Return what can be told of the rights in a store that could not be opened."""
    try:
        found = await requested(store, _examined(store, name))
    except StoreError:  # It is what could not be opened.
        return []
    return [finding for finding in found if finding.check != "reachable"]


async def _round_trip(store: Store, timing: Timing) -> Finding:
    """Compare a read with the time that one attempt at a renewal has."""
    longest_s = 0.0
    for _ in range(ROUND_TRIPS):
        started_s = boottime()
        try:
            await requested(store, store.read("incumbent-doctor"))
        except StoreError as error:
            return Finding("renewal", False, f"a read failed: {error}")
        longest_s = max(longest_s, boottime() - started_s)
    text = f"a read took up to {longest_s * 1000:.1f} ms; a renewal has {timing.attempt_s:.2f} s"
    if longest_s > timing.attempt_s:
        return Finding("renewal", False, text, "a longer TTL, or a nearer store")
    if longest_s > timing.attempt_s / 3:
        return Finding("renewal", None, f"{text}: little room", "a longer TTL, or a nearer store")
    return Finding("renewal", True, text)


async def _election(store: Store, name: str, ttl_s: float) -> list[Finding]:
    if not store.capabilities.reads:
        return [Finding(name, None, "this store tells nobody who holds")]
    try:
        async with connected(store, quiet=True):
            snapshot = await requested(store, store.read(name))
            match snapshot.holding:
                case Holding.FOREIGN if snapshot.bar is not None:
                    fix = "finish or undo the migration; candidates of this store wait meanwhile"
                    return [Finding(name, None, f"barred: {snapshot.why}", fix)]
                case Holding.FOREIGN:
                    fix = "remove the record, or choose another name"
                    return [Finding(name, False, f"a record that is not ours: {snapshot.why}", fix)]
                case Holding.ABSENT | Holding.VACANT:
                    text = f"{snapshot.holding.value}: nobody holds it now"
                    return [Finding(name, None, text, "start a candidate, if there should be one")]
            (now,), signs = await confirm(store, [snapshot], quiet=True)
    except IncumbentError as error:
        return [Finding(name, False, str(error))]
    sign = signs.get(name, "renewed")
    if sign == "dead":
        text = f"the record names {snapshot.holder}, and everything that held its lease is gone"
        return [Finding(name, False, text, "start a candidate: it takes over at once")]
    if sign == "silent":
        text = f"the record names {snapshot.holder}, which gave no sign of life within its TTL"
        return [Finding(name, False, text, "is there a standby? It takes over after the TTL")]
    if now.holding is not Holding.HELD:
        return [Finding(name, None, f"{now.holding.value}: the holder has just let go")]
    findings = [Finding(name, True, f"{now.holder} holds and renews, token {now.token}")]
    if now.ttl_s and now.ttl_s != ttl_s:
        text = f"the holder has {now.ttl_s:g} s, and this was checked for {ttl_s:g} s"
        findings.append(Finding("TTL", None, text, f"check with --ttl {now.ttl_s:g}"))
    return findings


# -- output ---------------------------------------------------------------------------------------


def _json(group: str, finding: Finding) -> dict[str, Any]:
    return {
        "group": group,
        "check": finding.check,
        "ok": finding.ok,
        "found": finding.text,
        "fix": finding.fix or None,
    }


def _draw(groups: Groups, options: Options) -> None:
    from rich.text import Text

    out = console()
    rows = table("check", "verdict", _FOUND, wrap=(_FOUND,))
    shown = 0
    for group, findings in groups:
        for finding in findings:
            if options.quiet and finding.ok:
                continue
            found = Text(finding.text)
            if finding.fix:
                found.append(f"\n→ {finding.fix}", style="bold")
            verdict = Text(_VERDICTS[finding.ok], style=_STYLES[finding.ok])
            rows.add_row(f"{group}: {finding.check}", verdict, found)
            shown += 1
    if shown:
        draw(rows)
    wrong = sum(finding.ok is False for _, findings in groups for finding in findings)
    unknown = sum(finding.ok is None for _, findings in groups for finding in findings)
    if wrong:
        out.print(Text(f"\n{wrong} not ok", style="bold red"))
    elif not options.quiet:
        text = "\nNothing here breaks the promise"
        out.print(Text(text + f"; {unknown} could not be told" * bool(unknown), style="bold"))
