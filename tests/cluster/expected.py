"""What is expected of each mode under each cause, and whether it came so.

| cause | at-least-one | at-most-one | elected |
| --- | --- | --- | --- |
| cut, api | two at once | one, and stuck until the heal | the other within TTL + 2 s |
| kubelet | two at once | one | the same one |
| crash | one, after a gap | nobody until the node is back | the other within TTL + 2 s |
| force, taint, delnode | two at once | **two, of one name** | the other within TTL + 2 s |
| all | one | one | nobody until the heal |

Elected (active-standby, and the part of partly-singleton) means one at every instant, always. And a
ledger that both sides reach has no line of an older token after one of a newer.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster import ledger
from tests.cluster.reader import Span, gaps, most_at_once, overlaps
from tests.cluster.rounds import Round
from tests.cluster.workloads import AT_LEAST, AT_MOST, ELECTED, PARTLY, STANDBY

__all__ = ["SLACK_S", "Finding", "judge", "takeover_s"]

SLACK_S = 2.0
_STALE_STATUS = 412
_S = 1_000_000_000

_TWO = {
    AT_LEAST: {"cut", "api", "kubelet", "force", "taint", "delnode"},
    AT_MOST: {"force", "taint", "delnode"},
}
_TAKES_OVER = {"cut", "api", "crash", "force", "taint", "delnode"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was expected, and what was seen instead or as well."""

    mode: str
    met: bool
    text: str


def judge(played: Round) -> list[Finding]:
    """Compare a round with what was expected of it."""
    found = []
    for mode in played.modes:
        found.append(_number(played, mode))
        if mode in ELECTED:
            found.append(_takeover(played, mode))
        if mode == PARTLY:
            found.append(_serving(played))
        if mode == AT_MOST and played.cause.name in ("cut", "api", "crash"):
            found.append(_stuck(played))
        found.append(_end(played, mode))
    if STANDBY in played.entries:
        found.append(_ledger(played))
    if played.late_status:
        refused = played.late_status == _STALE_STATUS
        text = f"a write under the token of the deposed is answered by {played.late_status}"
        found.append(Finding(STANDBY, refused, text))
    return found


def takeover_s(played: Round, mode: str) -> float | None:
    """Return how long after the cause somebody else was active, if that came before the heal."""
    spans = played.spans[mode]
    # Who was active some terms earlier may well be the one that takes over.
    old = {
        (span.pod, span.pid)
        for span in spans
        if span.first_ns < played.began_ns <= span.last_ns + _S // 2
    }
    for span in spans:
        if span.first_ns > played.began_ns and (span.pod, span.pid) not in old:
            return played.since_s(span.first_ns) if span.first_ns < played.healed_ns else None
    return None


def _number(played: Round, mode: str) -> Finding:
    spans = played.spans[mode]
    most = most_at_once(spans)
    wanted = 2 if played.cause.name in _TWO.get(mode, set()) else 1
    text = "one at every instant"
    if most > 1:
        both = overlaps(spans)
        seconds = sum(one.last_ns - one.first_ns for one in both) / _S
        text = f"{most} at once from {played.since_s(both[0].first_ns):.1f} s, for {seconds:.1f} s"
    return Finding(mode, most == wanted, text)


def _takeover(played: Round, mode: str) -> Finding:
    after_s = takeover_s(played, mode)
    limit_s = played.ttl_s + SLACK_S
    if played.cause.name in _TAKES_OVER:
        if after_s is None:
            return Finding(mode, False, "nobody else was active before the heal")
        text = f"the other is active after {after_s:.1f} s (at most {limit_s:g} s)"
        return Finding(mode, after_s <= limit_s, text)
    if after_s is not None:
        return Finding(mode, False, f"another is active after {after_s:.1f} s, with no reason")
    if played.cause.name == "all":
        found = gaps(played.spans[mode], played.began_ns, played.healed_ns)
        quiet = bool(found) and found[-1][1] == played.healed_ns
        text = "nobody is active before the heal: nobody can know"
        return Finding(mode, quiet, text)
    return Finding(mode, True, "the same one goes on")


def _serving(played: Round) -> Finding:
    """The part that is not elected works on wherever its process lives."""
    lasting = [span for span in played.serving[PARTLY] if _spans_cut(played, span)]
    wanted = 1 if played.cause.name == "crash" else 2
    met = len(lasting) >= wanted
    return Finding(PARTLY, met, f"{len(lasting)} replicas serve before, during and after the cut")


def _spans_cut(played: Round, span: Span) -> bool:
    end_ns = min(played.healed_ns, played.began_ns + 4 * _S)
    return span.first_ns < played.began_ns and span.last_ns >= end_ns


def _stuck(played: Round) -> Finding:
    """No second one anywhere, until the node is back."""
    after_s = takeover_s(played, AT_MOST)
    if after_s is not None:
        return Finding(AT_MOST, False, f"another is active after {after_s:.1f} s")
    if played.cause.name == "crash":
        return Finding(AT_MOST, True, "nobody is active until the node is back")
    during = gaps(played.spans[AT_MOST], played.began_ns, played.healed_ns)
    return Finding(AT_MOST, not during, "the one works on, cut off, and no second one starts")


def _end(played: Round, mode: str) -> Finding:
    last = max(span.last_ns for span in played.spans[mode])
    left = [span for span in played.spans[mode] if span.last_ns >= last - _S // 2]
    return Finding(mode, len(left) == 1, f"in the end {len(left)} is active")


def _ledger(played: Round) -> Finding:
    lines = played.entries[STANDBY]
    old = ledger.stale(lines)
    tokens = len({line.token for line in lines})
    text = f"{len(lines)} lines of {tokens} terms in the ledger, {len(old)} of them stale"
    return Finding(STANDBY, bool(lines) and not old, text)
