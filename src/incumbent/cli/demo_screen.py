"""How the demo looks: a live picture on a terminal, plain lines elsewhere, and the verdict.

Never is anything silent for more than a second: where there is no picture, a line says how things
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from incumbent.cli.demo_log import Fault, Span, Verdict, strip
from incumbent.cli.demo_stage import Replica, Stage
from incumbent.cli.output import console, draw, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["Plain", "Screen", "Silent", "conclude"]

QUIET_S = 0.9
GREATEST_COLUMNS = 100
WINDOW_S = 20.0
_COLOURS = {"a": "cyan", "b": "magenta", "c": "yellow"}
_LOOKS = {
    "starting": ("starting", "dim"),
    "standby": ("stands by", ""),
    "active": ("ACTIVE", "bold green"),
    "stopping": ("stopping", "green"),
    "paused": ("paused", "bold red"),
    "dead": ("dead", "red"),
}
_MARKS = {"kill": "K", "pause": "P", "handover": "H"}
_FAULTS = {"kill": "K  SIGKILL", "pause": "P  SIGSTOP", "handover": "H  step-down", "": "none"}


class Silent:
    """Nothing but the verdict."""

    def say(self, mark: str, text: str) -> None:
        """Say nothing."""

    def draw(self) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Have nothing to close."""


class Plain:
    """Lines with the time since the start."""

    def __init__(self, stage: Stage, out: TextIO) -> None:
        self._stage = stage
        self._out = out
        self._last_s = 0.0

    def say(self, mark: str, text: str) -> None:
        """Write a line."""
        self._last_s = self._stage.elapsed_s
        print(f"{self._last_s:6.2f}  {mark:<9}  {text}", file=self._out, flush=True)

    def draw(self) -> None:
        """Write how things are, if nothing was written for a while."""
        stage = self._stage
        if stage.elapsed_s - self._last_s >= QUIET_S:
            states = ", ".join(f"{r.label} {_LOOKS[r.state][0]}" for r in stage.replicas)
            self.say("", f"{states}; {stage.done} of {stage.dropped} jobs done")

    def close(self) -> None:
        """Have nothing to close."""


class Screen:
    """A picture that is drawn anew ten times a second; what was said scrolls up above it."""

    def __init__(self, stage: Stage) -> None:
        self._console = console()
        from rich.live import Live

        self._stage = stage
        self._live = Live(
            self._picture(), console=self._console, auto_refresh=False, transient=True
        )
        self._live.start()

    def say(self, mark: str, text: str) -> None:
        """Write a line above the picture."""
        from rich.text import Text

        line = Text(f"{self._stage.elapsed_s:6.2f}  ", style="dim")
        bad = mark in ("KILL", "PAUSE", "WAKE", "FAILED")
        line.append(f"{mark:<9}  ", style="bold red" if bad else "bold cyan")
        line.append(text, style="bold" if mark else "")
        self._console.print(line)

    def draw(self) -> None:
        """Draw the picture."""
        self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        """Take the picture away."""
        self._live.stop()

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        stage = self._stage
        width = min(self._console.width, GREATEST_COLUMNS)
        rows = table("replica", "state", "pid", "fencing token", "jobs done")
        terms = stage.terms
        for replica in stage.replicas:
            rows.add_row(*_row(replica, terms))
        end_s = stage.started_s + stage.elapsed_s
        start_s = max(stage.started_s, end_s - WINDOW_S)
        waiting = stage.dropped - stage.done
        twice = sum(1 for line in stage.lines if line.job) - stage.done
        counts = Text("jobs  ")
        counts.append(f"{stage.dropped} in the inbox, {stage.done} done, ")
        counts.append(f"{waiting} waiting, ", style="bold red" if waiting > 3 else "")
        counts.append(f"{twice} done twice", style="bold red" if twice else "green")
        strips = _strips(terms, stage.faults, start_s, start_s + WINDOW_S, width - 6)
        picture = Group(rows, "", *strips, "", counts)
        title = f"incumbent demo · lease {stage.ttl_s:g} s · {stage.elapsed_s:.1f} s"
        return Panel(picture, title=title, title_align="left", width=width, border_style="dim")


def _row(replica: Replica, terms: Sequence[Span]) -> Iterator[Text]:
    from rich.text import Text

    look, style = _LOOKS[replica.state]
    if replica.state == "dead":
        look = f"dead ({replica.how})"
    yield Text(replica.label, style=f"bold {_COLOURS[replica.name]}")
    yield Text(f"{look:<15}", style=style)
    yield Text(str(replica.pid or ""), style="dim")
    yield Text(f"{replica.token or '':<13}")
    yield Text(str(sum(term.jobs for term in terms if term.replica == replica.name)))


def _strips(
    terms: Sequence[Span], faults: Sequence[Fault], start_s: float, end_s: float, width: int
) -> Iterator[Text]:
    """Draw who was active when, one line for each replica, and what befell them."""
    from rich.text import Text

    columns = width - 3
    width_s = (end_s - start_s) / columns
    on, off = "█·" if console().encoding.startswith("utf") else "#."
    for name, colour in _COLOURS.items():
        line = Text(f"{name.upper()}  ", style=f"bold {colour}")
        active = strip(terms, name, start_s, end_s, columns)
        cells = [on if yes else off for yes in active]
        for fault in faults:
            column = int((fault.at_s - start_s) / width_s)
            if fault.replica == name and 0 <= column < columns:
                cells[column] = _MARKS[fault.kind]
        for cell in cells:
            style = {on: colour, off: "dim"}.get(cell, "bold reverse red")
            line.append(cell, style=style)
        yield line


def _scale(start_s: float, end_s: float, width: int) -> str:
    """Return a line with a number every five seconds."""
    columns = width - 3
    cells = [" "] * columns
    for second in range(0, int(end_s - start_s) + 1, 5):
        label = f"{second} s" if second == 0 else str(second)
        column = int(second / (end_s - start_s) * columns)
        if column + len(label) <= columns:
            cells[column : column + len(label)] = label
    return "   " + "".join(cells)


def conclude(verdict: Verdict, ttl_s: float, folder: str) -> None:
    """Show the verdict."""
    from rich.text import Text

    out = console()
    width = min(out.width, GREATEST_COLUMNS)
    looks = {
        "kept": ("The promise was kept", "bold green"),
        "broken": ("THE PROMISE WAS BROKEN", "bold white on red"),
        "void": ("Void: too little was shown", "bold yellow"),
    }
    heading, style = looks[verdict.outcome]
    out.print()
    said = Text(heading, style=style)
    said.append(f": judged from {verdict.lines} lines of the replicas' own log", style="not bold")
    out.print(said)
    for reason in verdict.why:
        out.print(Text(f"  {reason}", style="bold red"), soft_wrap=True)
    out.print()
    if verdict.terms:
        start_s = min(term.first_s for term in verdict.terms)
        end_s = max(term.last_s for term in verdict.terms)
        end_s = max(end_s, start_s + 1.0)
        for line in _strips(verdict.terms, verdict.faults, start_s, end_s, width):
            out.print(line)
        out.print(_scale(start_s, end_s, width), style="dim")
        out.print()
    gaps = table("fault", "active before", "after", "nobody active for")
    for gap in verdict.gaps:
        for_ = f"{gap.seconds_s * 1000:>8.0f} ms"
        gaps.add_row(_FAULTS[gap.fault], gap.before.upper(), gap.after.upper(), for_)
    draw(gaps)
    out.print()
    for count, what in (
        (len(verdict.overlaps), "overlaps: instants with two active replicas"),
        (verdict.stale, "lines of stale work: written after a successor's first"),
        (len(verdict.duplicates), "jobs done twice"),
        (len(verdict.missing), "jobs left out"),
    ):
        out.print(Text(f"{count:>5}  {what}", style="bold red" if count else ""))
    out.print(f"{verdict.jobs:>5}  jobs done once each, in {len(verdict.terms)} terms")
    if folder:
        out.print(f"\nkept: {folder}", soft_wrap=True)
