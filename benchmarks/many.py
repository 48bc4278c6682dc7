"""How many elections one process can hold, and what the last of them costs.

One process takes one election and then N more at once, by the layer below the faces, so without a
thread for each. Measured: the time from the start of the first of the N to the last that is held;
memory, as the growth of RSS from one election to all of them, divided by N; and over a steady
window the CPU time of the process, the writes that the server counted (the API server's own
metrics; the serial of the embedded database), and how long a renewal takes from send to answer.

The bound says what would saturate first. On Kubernetes each election is renewed by itself, so both
our one thread and the server pay for each of them: the greatest N is that at which the renewals of
a TTL of 15 s use up one core of ours, or all cores by the server. With `?session=1`, and on one
host, one session carries all, and the steady state costs the same for any N: what is left is the
time to take, and memory. What client-go asks for, for one election of three candidates, is in
`load`.

What could bias it: server and candidate share the machine. The Leases are there beforehand, vacant.
All are taken at once and so are due at once, every period: a renewal's time has its queue in it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import ssl
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import Event, EventProcess, cpu_s, python
from benchmarks.report import Report, Row, distribution
from incumbent.core.timing import Timing
from tests.servers.kubernetes import ApiServer

NAME = "many"
TITLE = "one process that holds many elections"

TTL_S = 15.0
_LIMIT_S = 300.0


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    sqlite(bench, report, bench.many(10_000, 1_000))
    kubernetes(bench, report, bench.many(1_000, 200))
    sessions(bench, report, bench.many(10_000, 1_000))
    report.notes.append(f"TTL {TTL_S:g} s; a lost term or a stall would be noted here")
    return report


def sqlite(bench: Bench, report: Report, count: int) -> None:
    """Hold elections on one host."""
    path = bench.dir / "many.db"
    with ExitStack() as stack:
        process = _start(bench, stack, "many-sqlite", f"sqlite://{path}", count)
        one, everything = _take_all(bench, process, "sqlite", count)
        before, after, counts = _window(bench, process, lambda: [_serial(path)])
    writes = counts[0]
    _told(report, "sqlite", count, one, everything, before, after)
    window_s = _seconds(before, after)
    report.rows.append(Row("transactions", "sqlite", "1/s", int(writes), writes / window_s))
    report.notes.append(
        "sqlite: bound by the time to take (one synced commit each) and by memory; one renewal "
        "carries all"
    )


def kubernetes(bench: Bench, report: Report, count: int) -> None:
    """Hold elections on Kubernetes."""
    renewals, ours_s, theirs_s, _ = _on_kubernetes(bench, report, "kubernetes", "", count)
    cores = os.cpu_count() or 1
    every_ms = Timing.plan(TTL_S, whole_seconds=True).renew_every_s * 1e3
    ours_ms, theirs_ms = ours_s * 1e3 / renewals, theirs_s * 1e3 / renewals
    greatest = {
        "our one thread": every_ms / ours_ms,
        f"API server and etcd on all {cores} cores": every_ms * cores / theirs_ms,
    }
    rows = (("incumbent", ours_ms), ("API server and etcd", theirs_ms))
    for who, cost_ms in rows:
        report.rows.append(Row("CPU per renewal", who, "ms", renewals, cost_ms))
    first = min(greatest, key=lambda name: greatest[name])
    report.notes.append(
        "kubernetes: saturates first: "
        f"{first}, at about {greatest[first]:,.0f} elections"
        + "".join(f"; {name}: {n:,.0f}" for name, n in greatest.items() if name != first)
    )


def sessions(bench: Bench, report: Report, count: int) -> None:
    """Hold elections on Kubernetes under one session."""
    store = "kubernetes, session=1"
    _, _, theirs_s, window_s = _on_kubernetes(bench, report, store, "?session=1", count)
    share = theirs_s * 100 / window_s
    report.rows.append(Row("CPU of API server and etcd", store, "% of a core", 1, share))
    report.notes.append(
        f"{store}: bound by the time to take (one PUT each) and by memory; one renewal carries all"
    )


def _on_kubernetes(
    bench: Bench, report: Report, store: str, query: str, count: int
) -> tuple[int, float, float, float]:
    """Hold elections, and return renewals, our CPU time, the server's, and the time that it was."""
    server = bench.server
    environment = {"KUBECONFIG": str(server.kubeconfig())}
    url = f"kubernetes://{bench.namespace()}{query}"
    with ExitStack() as stack:
        name = "".join(letter if letter.isalnum() else "-" for letter in f"many-{store}")
        process = _start(bench, stack, name, url, count, "--prepare", **environment)
        one, everything = _take_all(bench, process, store, count)
        processes = (server.apiserver.pid, server.etcd.pid)

        def spent() -> list[float]:
            return [_requests(server, "PUT"), _requests(server), sum(map(cpu_s, processes))]

        before, after, counts = _window(bench, process, spent)
    puts, requests, theirs_s = counts
    _told(report, store, count, one, everything, before, after)
    window_s = _seconds(before, after)
    report.rows.append(Row("PUTs", store, "1/s", int(puts), puts / window_s))
    report.rows.append(Row("requests", store, "1/s", int(requests), requests / window_s))
    took_ms = [float(value) for value in after["took_ms"]]
    report.rows.append(distribution("renewal, send to answer", store, "ms", took_ms))
    ours_s = (after["cpu_ns"] - before["cpu_ns"]) / 1e9
    return max(1, after["renewals"]), ours_s, theirs_s, window_s


def _start(
    bench: Bench, stack: ExitStack, name: str, url: str, count: int, *options: str, **more: str
) -> EventProcess:
    command = python(
        "many", f"--store={url}", f"--count={count}", f"--ttl={TTL_S}", f"--limit={_LIMIT_S}"
    )
    return bench.program(stack, name, [*command, *options], more)


def _take_all(bench: Bench, process: EventProcess, store: str, count: int) -> tuple[Event, Event]:
    bench.progress(f"many, {store}: taking {count:,}")
    one = process.wait_for("one", _LIMIT_S)
    return one, process.wait_for("all", _LIMIT_S + 30.0)


def _window(
    bench: Bench, process: EventProcess, count: Callable[[], list[float]]
) -> tuple[Event, Event, list[float]]:
    """Let it renew for a while; return the samples of both ends, and by how much `count` grew."""
    time.sleep(TTL_S / 2)
    bench.progress("many: a steady window")
    samples, counts = [], []
    for pause_s in (float(bench.many(45, 15)), 0.0):
        mark = process.mark()
        process.signal(signal.SIGUSR1)
        samples.append(process.wait_for("sample", _LIMIT_S, mark=mark))
        counts.append(count())
        time.sleep(pause_s)
    grown = [after - before for before, after in zip(*counts, strict=True)]
    return samples[0], samples[1], grown


def _seconds(before: Event, after: Event) -> float:
    return float(after["boottime_ns"] - before["boottime_ns"]) / 1e9


def _told(
    report: Report,
    store: str,
    count: int,
    one: Event,
    everything: Event,
    before: Event,
    after: Event,
) -> None:
    window_s = _seconds(before, after)
    took_s = (everything["boottime_ns"] - everything["started_ns"]) / 1e9
    growth_kib = after["memory_kib"] - one["memory_kib"]
    share = (after["cpu_ns"] - before["cpu_ns"]) / 1e7 / window_s
    report.rows += [
        Row("time to take all", store, "s", count, took_s, against=f"{count / took_s:,.0f} /s"),
        Row("memory per election", store, "KiB", count, growth_kib / count),
        Row("memory of the process", store, "MiB", 1, after["memory_kib"] / 1024),
        Row("CPU of the process", store, "% of a core", 1, share),
    ]
    if after["held"] != count + 1 or after["lost"]:
        notes = "; ".join(after["notes"])
        report.notes.append(
            f"{store}: {after['held']:,} of {count + 1:,} held at the end, {after['lost']:,} terms "
            f"lost on the way; the last notes: {notes}"
        )


def _serial(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT serial FROM counter").fetchone()[0])


def _metrics(server: ApiServer) -> str:
    request = urllib.request.Request(
        f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.token()}"}
    )
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    with opener.open(request, timeout=_LIMIT_S) as answer:
        text: bytes = answer.read()
    return text.decode()


def _requests(server: ApiServer, verb: str = "") -> int:
    """Return how many requests about Leases the API server has counted."""
    total = 0.0
    for line in _metrics(server).splitlines():
        if (
            line.startswith("apiserver_request_total{")
            and 'resource="leases"' in line
            and f'verb="{verb}' in line
        ):
            total += float(line.rpartition(" ")[2])
    return int(total)
