"""`incumbent audit`: what in manifests, or on a cluster, could make two of a singleton, or none."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import console, require_rich, show, write_json
from incumbent.cli.progress import Progress
from incumbent.errors import ConfigError

if TYPE_CHECKING:
    from incumbent.audit.case import Case
    from incumbent.audit.finding import Finding
    from incumbent.audit.source import Read
    from incumbent.audit.waivers import Waiver
    from incumbent.manifests.modes import Mode

__all__ = ["command"]

SEVERITIES = ("critical", "high", "medium", "low", "note")
NEVER = "never"
LONGEST_WAIT_S = 60.0
_SHOWN = 10
_STYLES = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "note": "cyan",
    "why": "dim",
    "fix": "",
    "waived": "dim",
}


@click.command(
    "audit",
    epilog="Exit codes: 0 nothing that bad; 1 something is; 2 usage, what cannot be read, no API "
    "server known; 69 the API server does not answer; 77 no right.",
)
@click.argument("files", nargs=-1, metavar="[FILES]...")
@click.option("--cluster", is_flag=True, help="Judge what runs, instead of files.")
@click.option("-n", "--namespace", default="", help="Of what names none; the one to look at.")
@click.option("--context", default="", help="Of the kubeconfig, with --cluster.")
@click.option("--kubeconfig", default="", metavar="PATH", help="Where that is, with --cluster.")
@click.option(
    "--mode",
    "modes",
    multiple=True,
    metavar="NAME=MODE",
    help="What a workload is meant to be, as in wiki=at-most-one or deployment/wiki=…",
)
@click.option("--waivers", "waiver_file", default="", metavar="PATH", help="What is accepted.")
@click.option(
    "--fail-on",
    type=click.Choice([*SEVERITIES, NEVER]),
    default="high",
    show_default=True,
    help="Exit with 1 if something is that bad, or worse.",
)
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default=None)
@click.option("--fix", is_flag=True, help="Mend in the files what needs no thought.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option("--rules", is_flag=True, help="List the rules, and look at nothing.")
@common(store=False)
def command(
    options: Options,
    files: tuple[str, ...],
    cluster: bool,
    namespace: str,
    context: str,
    kubeconfig: str,
    modes: tuple[str, ...],
    waiver_file: str,
    fail_on: str,
    form: str | None,
    fix: bool,
    diff: bool,
    rules: bool,
) -> int:
    """Judge Kubernetes manifests as a set, by rules on singletons.

    FILES are files, folders, and - for the standard input: helm template . | incumbent audit -
    """
    form = form or ("json" if options.json else "text")
    if form == "text":
        require_rich()
    if rules:
        return _list_rules(form)
    _check(files, cluster, context, kubeconfig, fix=fix, diff=diff)
    declared = _declared(modes)
    from incumbent.audit.waivers import read_waivers

    waivers = read_waivers(Path(waiver_file)) if waiver_file else []
    if cluster:
        case = asyncio.run(_of_cluster(options, kubeconfig, context, namespace, declared))
        left_out: list[str] = []
    else:
        case, read = _of_files(files, namespace, declared)
        left_out = read.left_out
    _refuse_unknown(case, declared)
    findings = _judged(case, waivers)
    if fix or diff:
        _mend(findings, write=fix, shown=form == "text")
        if fix:
            case, _ = _of_files(files, namespace, declared)
            findings = _judged(case, waivers)
    _write(findings, case, left_out, form, options)
    _tell_unused(findings, waivers)
    return _code(findings, fail_on)


def _check(
    files: tuple[str, ...], cluster: bool, context: str, kubeconfig: str, *, fix: bool, diff: bool
) -> None:
    if not files and not cluster:
        raise ConfigError("nothing to judge: name files or folders, - for a stream, or --cluster")
    if files and cluster:
        raise ConfigError("either files or --cluster: two sets are judged one after the other")
    if (context or kubeconfig) and not cluster:
        raise ConfigError("--context and --kubeconfig are for --cluster")
    if (fix or diff) and (cluster or "-" in files):
        raise ConfigError("--fix and --diff are for files: a stream or a cluster is not rewritten")


def _declared(modes: tuple[str, ...]) -> dict[str, Mode]:
    from incumbent.manifests.modes import Mode

    found = {}
    for each in modes:
        name, _, word = each.rpartition("=")
        if not name or word not in list(Mode):
            known = ", ".join(Mode)
            raise ConfigError(f"--mode {each!r} is not NAME=MODE, with a mode of {known}")
        kind, slash, rest = name.rpartition("/")
        found[f"{kind.lower()}{slash}{rest}"] = Mode(word)
    return found


# -- the case -------------------------------------------------------------------------------------


def _of_files(
    files: tuple[str, ...], namespace: str, declared: dict[str, Mode]
) -> tuple[Case, Read]:
    from incumbent.audit.case import Case
    from incumbent.audit.inventory import Inventory
    from incumbent.audit.source import read

    found = read(files, namespace=namespace)
    if not found.manifests:
        raise ConfigError(f"no Kubernetes object in {', '.join(files)}: is it the right place?")
    return Case(Inventory(found.manifests), declared), found


async def _of_cluster(
    options: Options, kubeconfig: str, context: str, namespace: str, declared: dict[str, Mode]
) -> Case:
    from incumbent.audit.case import Case
    from incumbent.audit.inventory import Inventory
    from incumbent.audit.live import Seen, read_cluster
    from incumbent.audit.rules.live import unsettled_s

    async def read() -> tuple[Case, Seen]:
        seen = await read_cluster(kubeconfig=kubeconfig, context=context, namespace=namespace)
        unseen = frozenset(seen.unseen)
        return Case(Inventory(seen.manifests), declared, seen.read_at, unseen), seen

    async with Progress("reading the cluster", quiet=options.quiet) as progress:
        case, seen = await read()
        wait_s = min(unsettled_s(case), LONGEST_WAIT_S)
        if wait_s:
            progress.text = "waiting whether a Pod that is gone still renews its lock"
            await asyncio.sleep(wait_s)
            case, seen = await read()
    if not options.quiet:
        for note in seen.notes:
            print(f"incumbent: not looked at: {note}", file=sys.stderr)
    return case


def _judged(case: Case, waivers: list[Waiver]) -> list[Finding]:
    from incumbent.audit.rules import judge
    from incumbent.audit.waivers import apply

    return apply(judge(case), waivers, datetime.now().astimezone().date())


def _refuse_unknown(case: Case, declared: dict[str, Mode]) -> None:
    """Refuse a mode of what is not there: what was meant would be judged without it.

    Raises:
        ConfigError: there is none of that name.
    """
    found = case.inventory.workloads
    names = {name for each in found for name in (each.name, f"{each.kind.lower()}/{each.name}")}
    for name in sorted(declared.keys() - names):
        near = get_close_matches(name, names, 1)
        there = ", ".join(sorted({each.name for each in found})[:_SHOWN]) or "none"
        meant = f"did you mean {near[0]!r}?" if near else f"there are: {there}"
        raise ConfigError(f"--mode {name}=…: there is no such workload: {meant}")


def _tell_unused(findings: list[Finding], waivers: list[Waiver]) -> None:
    from incumbent.audit.waivers import unused

    for each in unused(findings, waivers, datetime.now().astimezone().date()):
        text = f"the waiver of {each.rule} for {each.object} accepts nothing"
        past = f"; it ended with {each.until}" if each.until else ""
        print(f"incumbent: {text}{past}", file=sys.stderr)


def _code(findings: list[Finding], fail_on: str) -> int:
    from incumbent.audit.finding import Severity

    if fail_on == NEVER:
        return codes.OK
    worst = max((each.severity.rank for each in findings if not each.waived), default=-1)
    return codes.NOT_SO if worst >= Severity(fail_on).rank else codes.OK


# -- repairs --------------------------------------------------------------------------------------


def _mend(findings: list[Finding], *, write: bool, shown: bool) -> None:
    from incumbent.audit.fix import diff, repair

    for done in repair(findings):
        name = done.file.name
        if shown and not write:
            print(diff(done), end="")
        if write and done.text != done.file.text:
            _replace(Path(name), done.text)
            ids = sorted({each.rule.id for each in done.made})
            print(f"incumbent: mended {name}: {', '.join(ids)}", file=sys.stderr)
        for each in done.refused:
            text = f"{name}:{each.line}: {each.rule.id} cannot be mended safely in this text"
            print(f"incumbent: {text}", file=sys.stderr)


def _replace(path: Path, text: str) -> None:
    try:
        marked = path.read_bytes().startswith(b"\xef\xbb\xbf")
        with path.open("w", encoding="utf-8-sig" if marked else "utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


# -- output ---------------------------------------------------------------------------------------


def _write(
    findings: list[Finding], case: Case, left_out: list[str], form: str, options: Options
) -> None:
    if form == "json":
        from incumbent.audit.report.json import document

        write_json(document(findings, left_out))
    elif form == "sarif":
        from incumbent.audit.report.sarif import log

        write_json(log(findings))
    else:
        _draw(findings, case, left_out, options)


def _draw(findings: list[Finding], case: Case, left_out: list[str], options: Options) -> None:
    from rich.text import Text

    from incumbent.audit.report.text import lines, summary

    out = console()
    for line in lines(findings, quiet=options.quiet):
        out.print(Text(line.text, style=_STYLES.get(line.style, "")), soft_wrap=True)
    if options.quiet:
        return
    if left_out:
        places = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        print(f"incumbent: no Kubernetes object, left out: {places}", file=sys.stderr)
    text = summary(findings, len(case.inventory.manifests))
    out.print(Text(text, style="bold"), soft_wrap=True)


def _list_rules(form: str) -> int:
    from incumbent.audit.rules import RULES

    if form == "text":
        rows = [
            (each.id, each.severity, "cluster" if each.live else "both", each.title)
            for each in RULES
        ]
        show(rows, "rule", "severity", "where", "what is wrong", wrap=("what is wrong",))
        return codes.OK
    write_json(
        [
            {
                "rule": each.id,
                "severity": each.severity,
                "live": each.live,
                "title": each.title,
                "why": each.why,
                "fix": each.fix,
                "links": [each.page, *each.links],
            }
            for each in RULES
        ]
    )
    return codes.OK
