"""What an idle candidate asks of the API server.

The requests of each user in the audit log of the server, over a window in which nothing happens but
renewals: a holder and a standby of ours, of client-go and of the Python client, each with a user of
its own, all with a lease duration of 15 s (and a retry period of 2 s, client-go's default). What
the window opened as a watch is counted by itself. From the count before to the count after a pause;
the length of the window is the difference of two stamps.

What could bias it: a watch of ours is renewed at its own end, every 290 s, so a short window may
show none. Nobody acts meanwhile; a takeover costs requests.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.handover import DEFAULTS
from benchmarks.processes import now_ns
from benchmarks.report import Report, Row, Target
from tests.servers.kubernetes import CANDIDATES, RESTRICTED, ApiServer, Rule

NAME = "standby"
TITLE = "requests of idle candidates to the API server, beside their watch"

_LIMIT_S = 60.0
_SETTLE_S = 5.0
_RIGHTS = Rule(("get", "create", "update", "list", "watch"))


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    window_s = bench.many(120, 20)
    users = (*CANDIDATES, RESTRICTED)
    roles = [
        (who, role)
        for who in ("incumbent", "client-go", "Python client")
        for role in ("holder", "standby")
    ]
    with ExitStack() as stack:
        bench.progress("standby: starting an API server with an audit log")
        server = bench.start_server("audited", stack, audit=True)
        namespace = bench.namespace(server)
        for user, (who, role) in zip(users, roles, strict=True):
            server.grant(user, [_RIGHTS], namespace)
            kubeconfig, identity = server.kubeconfig(user), f"{role}-of-{who.split()[0].lower()}"
            if who == "incumbent":
                url = f"kubernetes://{namespace}"
                ours = bench.ours(stack, identity, url, kubeconfig=kubeconfig)
                ours.wait_for("checked" if role == "holder" else "standby", _LIMIT_S)
            elif who == "client-go":
                go = bench.clientgo(stack, identity, namespace, DEFAULTS, kubeconfig)
                go.wait_for("started" if role == "holder" else "new_leader", _LIMIT_S)
            else:
                client = bench.python_client(
                    stack, identity, namespace, DEFAULTS, kubeconfig=kubeconfig
                )
                client.wait_for("started" if role == "holder" else "standby", _LIMIT_S)
        time.sleep(_SETTLE_S)
        before = {user: _counted(server, user) for user in users}
        started_ns = now_ns()
        bench.progress(f"standby: a window of {window_s} s")
        time.sleep(window_s)
        took_s = (now_ns() - started_ns) / 1e9
        after = {user: _counted(server, user) for user in users}
    for user, (who, role) in zip(users, roles, strict=True):
        new = after[user] - before[user]
        watches = new.pop("watch", 0)
        count = sum(new.values())
        kinds = ", ".join(f"{n} {verb}" for verb, n in sorted(new.items())) or "none"
        against = f"{kinds}; watches opened: {watches}"
        report.rows.append(Row(role, who, "requests/s", count, count / took_s, against=against))
        if (who, role) == ("incumbent", "standby"):
            text = "requests of our idle standby, beside its watch"
            report.targets.append(Target(text, count, 0, f"in {took_s:.0f} s"))
    report.notes.append(f"one window of {took_s:.1f} s; n is the number of requests in it")
    return report


def _counted(server: ApiServer, user: str) -> Counter[str]:
    """Return the requests of a user so far, by verb; a watch counts when it has begun."""
    counts: Counter[str] = Counter()
    for event in server.audit_events(user):
        stage = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
        if event["stage"] == stage:
            counts[event["verb"]] += 1
    return counts
