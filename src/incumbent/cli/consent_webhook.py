"""`incumbent consent-webhook`: answers evictions, or prints the Kubernetes objects that run it.

What it answers, and why, is in `consent.decision`. Each decision is a line of JSON on the standard
output; everything else goes to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.errors import ConfigError, MissingExtra

__all__ = ["command"]

POLICIES = ("Ignore", "Fail")


@click.command("consent-webhook")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Its chain.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its key.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True)
@seconds("--expire-after", "expiry_s", help="How long an owner has for an answer [for ever].")
@seconds("--handover-wait", "handover_s", help="How long an active one has to hand over [60].")
@click.option(
    "--retry-after",
    "retry_s",
    type=click.IntRange(1, 300),
    default=2,
    show_default=True,
    metavar="S",
    help="When to ask again, as told to whoever evicts.",
)
@click.option(
    "--failure-policy",
    type=click.Choice(POLICIES),
    default="Ignore",
    show_default=True,
    help="What becomes of an eviction that nobody could look at.",
)
@click.option("--kubeconfig", default="", metavar="PATH", help="Instead of the Pod's account.")
@click.option("--context", default="", help="Of the kubeconfig.")
@common(store=False)
def command(
    options: Options,
    tls_cert: Path | None,
    tls_key: Path | None,
    host: str,
    port: int,
    expiry_s: float | None,
    handover_s: float | None,
    retry_s: int,
    failure_policy: str,
    kubeconfig: str,
    context: str,
) -> int:
    """Answer evictions for the API server: yes, or 429 until an owner has consented.

    An admission webhook for `pods/eviction`. It runs in the cluster, twice.
    """
    if tls_cert is None or tls_key is None:
        raise ConfigError("the API server speaks TLS only: give --tls-cert and --tls-key")
    show_log(lambda text: click.echo(f"incumbent: {text}", err=True))
    try:
        asyncio.run(
            _serve(
                tls_cert,
                tls_key,
                host,
                port,
                expiry_s,
                60.0 if handover_s is None else handover_s,
                retry_s,
                refuse_unseen=failure_policy == "Fail",
                kubeconfig=kubeconfig,
                context=context,
            )
        )
    except KeyboardInterrupt:
        return codes.INTERRUPTED
    return codes.OK


async def _serve(
    tls_cert: Path,
    tls_key: Path,
    host: str,
    port: int,
    expiry_s: float | None,
    handover_s: float,
    retry_s: int,
    *,
    refuse_unseen: bool,
    kubeconfig: str,
    context: str,
) -> None:
    try:
        from incumbent.stores.kubernetes.client import Client
    except ModuleNotFoundError:
        raise MissingExtra(
            "this speaks with Kubernetes: pip install 'incumbent[cli,kubernetes,webhook]'"
        ) from None
    from incumbent.consent.decision import Rules
    from incumbent.consent.desk import Desk
    from incumbent.consent.server import serve
    from incumbent.consent.trail import Trail
    from incumbent.stores.kubernetes.config import load

    def now() -> datetime:
        return datetime.now(UTC)

    def write(text: str) -> None:
        print(text, flush=True)

    def ready() -> None:
        print(f"incumbent: answering evictions on {host}, port {port}", file=sys.stderr, flush=True)

    connection = load(kubeconfig=kubeconfig, context=context)
    client = Client(connection, connection.namespace)
    rules = Rules(
        expiry=None if expiry_s is None else timedelta(seconds=expiry_s),
        retry_s=retry_s,
        handover=timedelta(seconds=handover_s),
    )
    trail = Trail(client, write, now)
    desk = Desk(client, rules, refuse_unseen=refuse_unseen, now=now, heard=trail.heard)
    try:
        await serve(desk, host, port, tls_cert, tls_key, ready)
    finally:
        await trail.close()
        await client.close()
