"""Which tests a worker is given next, when several workers share a run.

A file is given to one worker as a whole, which starts the servers that it needs once. Files that
take long come first, since who begins one of them last is waited for by all. Planted mistakes have
nothing in common, and each is a process of its own anyway: they are given out singly, before the
short files, and even out what the long ones have left uneven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["LONGEST", "SINGLY", "in_turn", "path_of", "unit_of"]

LONGEST = (
    "tests/stores/test_etcd.py",
    "tests/stores/test_local.py",
    "tests/faults/test_faults.py",
    "tests/stores/test_capabilities.py",
    "tests/stores/test_zookeeper.py",
    "tests/simulator/test_histories.py",
    "tests/stores/test_kubernetes.py",
    "tests/cli/test_run.py",
    "tests/stores/test_postgresql.py",
    "tests/partners/test_sql_locks.py",
    "tests/partners/test_pekko.py",
    "tests/partners/test_camel.py",
    "tests/partners/test_camel_map.py",
    "tests/partners/test_zookeeper.py",
    "tests/partners/test_kubernetes_client.py",
    "tests/stores/test_sql.py",
    "tests/stores/test_consul_cluster.py",
    "tests/servers/test_servers.py",
    "tests/stores/test_mysql.py",
    "tests/partners/test_sql_conformance.py",
    "tests/stores/test_sql_joined.py",
    "tests/stores/test_redis_worlds.py",
    "tests/partners/test_consul.py",
    "tests/stores/test_file_recipe.py",
    "tests/cli/test_rights.py",
    "tests/consent/test_webhook.py",
    "tests/runtime/test_contain.py",
    "tests/stores/test_queue_faults.py",
    "tests/partners/test_etcd.py",
    "tests/partners/test_redis.py",
    "tests/stores/test_kubernetes_formats.py",
    "tests/cli/test_watch.py",
    "tests/stores/test_kubernetes_sessions.py",
    "tests/workloads/test_fleet.py",
    "tests/workloads/test_spread.py",
    "tests/cluster/test_played.py",
    "tests/cli/test_demo.py",
    "tests/faces/test_sync.py",
    "tests/cli/test_step_down.py",
    "tests/faults/test_losses.py",
    "tests/faults/test_migrating.py",
    "tests/faces/test_isolate.py",
    "tests/partners/test_dapr.py",
    "tests/stores/test_dapr.py",
    "tests/cli/test_status.py",
    "tests/apps/test_django.py",
    "tests/apps/test_celery.py",
)
"""Those that take more than twenty seconds on two cores, as `--durations=0` tells."""

SINGLY = "tests/simulator/test_mutants.py"


def path_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition(".py")[0] + ".py"


def in_turn(paths: Sequence[str]) -> list[str]:
    """Return the files in the order in which they are given out, given that of each test."""
    tests = Counter(paths)
    others = sorted(tests.keys() - {*LONGEST, SINGLY}, key=lambda path: (-tests[path], path))
    return [path for path in (*LONGEST, SINGLY, *others) if path in tests]


def unit_of(nodeid: str) -> str:
    """Return the name of what is given out at once and has this test in it."""
    path = path_of(nodeid)
    return nodeid if path == SINGLY else path
