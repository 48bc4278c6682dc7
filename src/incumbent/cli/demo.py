"""`incumbent demo`: three replicas, one active, and what becomes of it under faults.

The replicas are real processes (`demo_worker`), the store is the embedded one in a temporary
folder, the work is a poller's. The holder is killed, the next one is paused for longer than its
lease and woken up again, and the third hands over to a chosen one. At the end the workers' own log
is judged (`demo_log`); what was seen on the screen before counts for nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import click

from incumbent.cli import codes
from incumbent.cli.demo_log import Verdict, judge, parse
from incumbent.cli.demo_stage import Replica, Stage
from incumbent.cli.demo_worker import ELECTION, log_path, store_url
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import require_rich, write_json
from incumbent.cli.step_down import ask_holder
from incumbent.clock import boottime
from incumbent.errors import IncumbentError
from incumbent.stores import open_store

__all__ = ["command", "document", "run"]

TAKEOVERS = 3
CALM_S = 2.0
LIMIT_S = 40.0
DRAW_EVERY_S = 0.1


class Show(Protocol):
    """How the demo is shown while it runs."""

    def say(self, mark: str, text: str) -> None:
        """Tell one thing that was done or seen."""
        ...

    def draw(self) -> None:
        """Show how things are now; called every tenth of a second."""
        ...

    def close(self) -> None:
        """Show no more."""
        ...


class Script:
    """What is done to whom, and in which order."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    async def play(self) -> None:
        """Play all of it."""
        stage, say = self._stage, self._show.say
        say("start", "three replicas; each would do every job if it were alone")
        for replica in stage.replicas:
            stage.start(replica)
        await self._complete("no replica became active")
        holder = self._holder()
        others = " and ".join(r.label for r in stage.replicas if r is not holder)
        say("", f"{holder.label} is active; {others} stand by")
        await asyncio.sleep(CALM_S)
        await self._kill()
        await self._pause()
        await self._hand_over()
        await stage.until(lambda: stage.done >= stage.dropped - 1, 2.0, "jobs were left")

    async def _kill(self) -> None:
        """A crash: no goodbye, no release."""
        stage, holder = self._stage, self._holder()
        self._show.say("KILL", f"{holder.label} gets SIGKILL (pid {holder.pid})")
        known = len(stage.terms)
        stage.fault("kill", holder)
        holder.signal(signal.SIGKILL)
        await self._taken_over(known)
        await self._restart(holder)

    async def _pause(self) -> None:
        """A pause that outlasts the lease: the holder cannot know of it when it wakes up."""
        stage, holder, say = self._stage, self._holder(), self._show.say
        say("PAUSE", f"{holder.label} is stopped (SIGSTOP, pid {holder.pid}) for over a lease")
        fault = stage.fault("pause", holder)
        holder.signal(signal.SIGSTOP)
        known = len(stage.terms)
        await stage.until(
            lambda: holder.exited_at_s is not None or len(stage.terms) > known,
            2 * stage.ttl_s + 5,
            "nobody took over",
        )
        if holder.exited_at_s is not None:
            after_s = holder.exited_at_s - fault.at_s
            say("", f"{holder.label}'s own kernel timer ended it, {after_s:.2f} s into the pause")
        await self._taken_over(known)
        over_s = fault.at_s + stage.ttl_s + 0.5 - boottime()
        await asyncio.sleep(max(0.5, over_s))
        written = self._written(holder.pid)
        say("WAKE", f"{holder.label} is continued (SIGCONT), with its lease long over")
        holder.signal(signal.SIGCONT)
        await asyncio.sleep(1.0)
        stage.look()
        more = self._written(holder.pid) - written
        if holder.exited_at_s is None:
            say("", f"{holder.label} was not ended by its timer, and wrote {more} lines on waking")
        else:
            say("", f"{holder.label} does not wake up: it is dead, and wrote nothing more")
        await self._restart(holder)

    async def _hand_over(self) -> None:
        """A planned one: to whom is chosen here."""
        stage, holder = self._stage, self._holder()
        chosen = next(replica for replica in stage.replicas if replica.state == "standby")
        self._show.say("HAND OVER", f"from {holder.label} to {chosen.label} (step-down --to)")
        store = open_store(store_url(stage.folder))
        await store.open(create=False)
        try:
            known = len(stage.terms)
            stage.fault("handover", holder)
            await ask_holder(store, ELECTION, chosen.name)
            await self._taken_over(known)
        finally:
            await store.close()
        await asyncio.sleep(CALM_S)

    # -- helpers ----------------------------------------------------------------------------------

    def _holder(self) -> Replica:
        holder = self._stage.active
        if holder is None:
            raise IncumbentError("nobody is active")
        return holder

    def _written(self, pid: int) -> int:
        return sum(line.pid == pid for line in self._stage.lines)

    async def _taken_over(self, known: int) -> None:
        """Wait for a term after the `known` ones, and say how long nobody was active."""
        stage = self._stage
        limit_s = 2 * stage.ttl_s + 5
        await stage.until(lambda: len(stage.terms) > known, limit_s, "nobody took over")
        before, after = stage.terms[known - 1], stage.terms[known]
        gap_s = after.first_s - before.last_s
        took = f"{gap_s:.2f} s" if gap_s >= 1 else f"{gap_s * 1000:.0f} ms"
        self._show.say("", f"{after.replica.upper()} is active; nobody was for {took}")
        await stage.until(lambda: stage.active, 2.0, "nobody is active")

    async def _restart(self, replica: Replica) -> None:
        self._show.say("", f"{replica.label} is started again")
        self._stage.start(replica)
        await self._complete(f"{replica.label} did not come back")
        await asyncio.sleep(CALM_S)

    async def _complete(self, what: str) -> None:
        """Wait until one is active and two stand by."""
        stage = self._stage
        wanted = ["active", "standby", "standby"]

        def complete() -> bool:
            states = sorted(replica.state for replica in stage.replicas)
            if "dead" in states:
                raise IncumbentError(f"{what}. {stage.last_words()}")
            return states == wanted and stage.active is not None

        await stage.until(complete, 10.0 + stage.ttl_s, what)


async def run(stage: Stage, show: Show) -> Verdict:
    """Play the script and judge the log."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    background = [
        asyncio.create_task(work) for work in (stage.fill(), stage.read_log(), _draw(show))
    ]
    playing = asyncio.create_task(Script(stage, show).play())
    waiting = asyncio.create_task(interrupted.wait())
    trouble = ""
    try:
        await asyncio.wait(
            [playing, waiting, *background],
            timeout=LIMIT_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in background:
            if task.done():
                task.result()
        if interrupted.is_set():
            raise KeyboardInterrupt
        if playing.done():
            playing.result()
        else:
            trouble = f"the demo did not end within {LIMIT_S:g} s"
    except (IncumbentError, ProcessLookupError) as error:
        trouble = str(error)
    finally:
        background[0].cancel()
        playing.cancel()
        waiting.cancel()
        with suppress(asyncio.CancelledError, IncumbentError, ProcessLookupError):
            await playing
        await stage.stop()
        for task in background:
            task.cancel()
        show.close()
    if trouble:
        show.say("FAILED", trouble)
    lines, unreadable = parse(log_path(stage.folder).read_text())
    return judge(lines, unreadable=unreadable, faults=stage.faults, least_takeovers=TAKEOVERS)


async def _draw(show: Show) -> None:
    while True:
        show.draw()
        await asyncio.sleep(DRAW_EVERY_S)


def document(verdict: Verdict, ttl_s: float, folder: str) -> dict[str, Any]:
    """Return the verdict as JSON has it."""
    return {
        "outcome": verdict.outcome,
        "why": list(verdict.why),
        "ttl_s": ttl_s,
        "jobs": verdict.jobs,
        "duplicates": list(verdict.duplicates),
        "missing": list(verdict.missing),
        "overlaps": list(verdict.overlaps),
        "stale_lines": verdict.stale,
        "takeovers": verdict.takeovers,
        "gaps": [
            {"fault": g.fault, "from": g.before, "to": g.after, "gap_s": round(g.seconds_s, 6)}
            for g in verdict.gaps
        ],
        "terms": [
            {
                "replica": term.replica,
                "pid": term.pid,
                "token": term.token,
                "first_s": round(term.first_s, 6),
                "last_s": round(term.last_s, 6),
                "jobs": term.jobs,
            }
            for term in verdict.terms
        ],
        "log_lines": verdict.lines,
        "unreadable_lines": verdict.unreadable,
        "folder": folder,
    }


@click.command("demo")
@common(store=False)
@seconds("--ttl", "ttl_s", help="Time to live of the lease [3].", least=1.0)
@click.option("--keep", is_flag=True, help="Leave the folder with the log and the store.")
def command(options: Options, ttl_s: float | None, keep: bool) -> int:
    """Show three replicas of a poller, of which one is active, under faults.

    The holder is killed, paused past its lease, and told to hand over. Ends by itself with a
    verdict from the workers' own log: 0 if the promise was kept, 1 if not or if too little was
    shown. Takes about half a minute; with a longer lease, longer.
    """
    from incumbent.cli import demo_screen

    if not options.json:
        require_rich()
    ttl_s = 3.0 if ttl_s is None else ttl_s
    if ttl_s > 8.0:
        raise click.BadParameter("use at most 8 s: nobody likes to wait", param_hint="--ttl")
    folder = Path(tempfile.mkdtemp(prefix="incumbent-demo-"))
    try:
        verdict = asyncio.run(_played(folder, ttl_s, options))
        kept = str(folder) if keep else ""
        if options.json:
            write_json(document(verdict, ttl_s, kept))
        else:
            demo_screen.conclude(verdict, ttl_s, kept)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return codes.OK if verdict.kept else codes.NOT_SO


async def _played(folder: Path, ttl_s: float, options: Options) -> Verdict:
    from incumbent.cli import demo_screen

    stage = Stage(folder, ttl_s)
    show: Show
    if options.quiet:
        show = demo_screen.Silent()
    elif options.json:
        show = demo_screen.Plain(stage, sys.stderr)
    elif sys.stdout.isatty():
        show = demo_screen.Screen(stage)
    else:
        show = demo_screen.Plain(stage, sys.stdout)
    return await run(stage, show)
