"""One term of an operator: watches wake, a few tasks look after what is due, until it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from incumbent.errors import ConfigError, LeadershipLost, StoreError
from incumbent.operator.cluster import Cluster
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.queue import Name, Queue
from incumbent.operator.reconciling import Reconciler
from incumbent.operator.waking import WATCHED, follow
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import Connection

__all__ = ["operate", "require_definition"]

_TASKS = 4
_AGAIN_S = 300.0

_log = logging.getLogger("incumbent.operator")


async def require_definition(connection: Connection) -> None:
    """Make sure that the cluster knows Singletons.

    Raises:
        ConfigError: it does not.
        StoreError: it does not answer.
    """
    client = Client(connection, connection.namespace, SINGLETONS)
    try:
        if not await client.resource_found():
            raise ConfigError(
                "this cluster does not know Singletons: apply what `incumbent operator "
                "--manifests` prints"
            )
    finally:
        await client.close()


async def operate(
    connection: Connection,
    namespace: str,
    *,
    check: Callable[[], None],
    token: int | None,
    instance: str,
) -> None:
    """Look after all Singletons until cancelled.

    Args:
        connection: to the API server.
        namespace: which one is looked after; "" for all.
        check: raises when the term is over.
        token: of the term; None if nobody was elected.
        instance: who this is, for events.

    Raises:
        LeadershipLost: the term is over, or one of a greater term is at work.
    """
    client = Client(connection, namespace, SINGLETONS)
    reconciler = Reconciler(Cluster(client, check), token, instance)
    queue = Queue()
    try:
        async with asyncio.TaskGroup() as group:
            for of in WATCHED:
                group.create_task(follow(client, of, queue.wake, reconciler.held))
            for _ in range(_TASKS):
                group.create_task(_look_after(queue, reconciler))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        await client.close()


async def _look_after(queue: Queue, reconciler: Reconciler) -> None:
    while True:
        name: Name = await queue.take()
        again: bool | None = True
        try:
            again = await reconciler.reconcile(name)
        except StoreError as error:
            _log.warning("%s/%s: %s", *name, error)
        except LeadershipLost:
            raise
        except Exception:
            # One that we cannot cope with must not keep us from all the others.
            _log.exception("%s/%s", *name)
        finally:
            queue.done(name, failed=bool(again))
        if again is not None:
            queue.wake(name, _AGAIN_S)
