"""The dialogues that every pair of members has to play, whoever of them is ours.

One holds and the other stays out, for as long as `beats` says (choose more than two of whichever
time to live is counted); then the first gives up or dies, and the other is next. Each member tells
when it held, on one clock, so that the order of things needs no trust in whoever waits for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.partners.member import Member
from tests.servers.speaker import Event

START_S = 60.0
"""A Java virtual machine on a busy machine takes its time."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What both said; `handed_over_s` is from the end of the one to the beginning of the other."""

    first: list[Event]
    second: list[Event]
    handed_over_s: float

    def transcript(self, first: str, second: str) -> str:
        """Return what both said in its order; of beats only how many."""
        lines = []
        both = [(e["at"], first, e) for e in self.first] + [
            (e["at"], second, e) for e in self.second
        ]
        begun = min(at for at, _, _ in both)
        beats = 0
        for at, who, event in sorted(both, key=lambda line: line[0]):
            if event["event"] == "beat":
                beats += 1
                continue
            if beats:
                lines.append(f"{'':8}  ({beats} beats)")
                beats = 0
            more = {k: v for k, v in event.items() if k not in ("event", "at") and v is not None}
            told = " ".join(f"{key}={value}" for key, value in more.items())
            lines.append(f"{at - begun:8.3f}  {who:<18} {event['event']} {told}".rstrip())
        return "\n".join(lines)


@contextmanager
def ended(*members: Member) -> Iterator[None]:
    """Kill every member that is left at the end."""
    with ExitStack() as stack:
        for member in members:
            stack.callback(member.kill)
        yield


def passes_on(first: Member, second: Member, how: str, *, beats: int, limit_s: float) -> Passed:
    """Let `first` hold while `second` wants to, and see `second` follow.

    Args:
        first: holds to begin with.
        second: contends in vain, and is next.
        how: "release" or "crash".
        beats: of how many beats of the first the second has to stay out.
        limit_s: within which the second must hold after the end of the first.
    """
    with ended(first, second):
        first.start()
        first.wait_for("holding", START_S)
        second.start()
        second.wait_for("waiting", START_S)
        begun = len(first.all("beat"))
        first.wait_for("beat", limit_s + beats, count=begun + beats)
        assert not second.all("holding"), f"two hold: {second.events}"
        said = first.leave(START_S) if how == "release" else first.crash(START_S)
        held = second.wait_for("holding", limit_s)
        last = said[-1]["at"]
        assert held["at"] >= last, f"{second.name} held before {first.name} had ended"
        before, after = first.all("holding")[0].get("token"), held.get("token")
        if before is not None and after is not None:
            assert after > before, f"the fencing token fell from {before} to {after}"
        second.wait_for("beat", START_S)
        return Passed(said, second.leave(START_S), held["at"] - last)


Makes = Callable[[str], tuple[Member, Member]]
"""Returns a member of ours and one of theirs, on a lock of this name that nobody has used."""

DIALOGUES = tuple((who, how) for who in ("ours", "theirs") for how in ("release", "crash"))
"""Who holds first, and how that ends."""

ALL_DIALOGUES = "INCUMBENT_TESTS_PLAY_ALL_DIALOGUES"
"""The variable that makes tests play all; set by `python -m tests.partners`."""

OF_EVERY_RUN = (("ours", "release"), ("theirs", "crash"))
"""What `make test` plays: each is the next once, and each end is seen once. A virtual machine that
starts costs as much as fifty other tests.
"""


def all_pass_on(
    makes: Makes,
    *,
    beats: int,
    limit_s: float,
    dialogues: Sequence[tuple[str, str]] = (),
) -> dict[tuple[str, str], Passed]:
    """Play several dialogues at once, for they mostly wait; print and return what was said.

    Without `dialogues`, all that are due in this run.
    """
    dialogues = dialogues or (DIALOGUES if ALL_DIALOGUES in os.environ else OF_EVERY_RUN)

    def play(dialogue: tuple[str, str]) -> Passed:
        who, how = dialogue
        ours, theirs = makes(f"{who}-{how}")
        first, second = (ours, theirs) if who == "ours" else (theirs, ours)
        passed = passes_on(first, second, how, beats=beats, limit_s=limit_s)
        after = f"{passed.handed_over_s:.2f} s"
        said = passed.transcript(first.name, second.name)
        print(f"-- {who} first, {how}: handed over in {after}\n{said}", flush=True)
        return passed

    with ThreadPoolExecutor(len(dialogues)) as pool:
        return dict(zip(dialogues, pool.map(play, dialogues), strict=True))


def pass_in_order(members: Sequence[Member], *, limit_s: float) -> list[Event]:
    """Let members come one after another, and each leave in its turn; return what held."""
    first, *others = members
    with ended(*members):
        first.start()
        first.wait_for("holding", START_S)
        for member in others:
            member.start()
            member.wait_for("waiting", START_S)
        held: list[Event] = []
        last, token = 0.0, 0
        for member in members:
            holding = member.wait_for("holding", limit_s)
            assert holding["at"] >= last
            assert holding["token"] > token
            member.wait_for("beat", limit_s, count=5)
            last, token = member.leave(START_S)[-1]["at"], holding["token"]
            held.append(holding)
        return held
