"""`incumbent consent-webhook`: answers evictions, or prints the Kubernetes objects that run it.

What it answers, and why, is in `consent.decision`. Each decision is a line of JSON on the standard
output; everything else goes to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import write_json
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
    default=1,
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
@click.option("--manifests", is_flag=True, help="Print the Kubernetes objects that run it.")
@click.option("--image", metavar="IMAGE:VERSION", help="With --manifests: what runs.")
@click.option(
    "--guard",
    "guarded",
    metavar="NAMESPACE",
    multiple=True,
    help="Where evictions are asked about; may be given several times. Needed with --manifests.",
)
@click.option("--namespace", metavar="NAME", help="With --manifests: where it runs [incumbent].")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=None,
    metavar="N",
    help="With --manifests: how long the certificate is good for [365].",
)
@click.option(
    "--cert-manager",
    "issuer",
    default="",
    metavar="ISSUER",
    help="With --manifests: let cert-manager make it; Issuer/NAME or ClusterIssuer/NAME.",
)
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
    manifests: bool,
    image: str | None,
    guarded: tuple[str, ...],
    namespace: str | None,
    days: int | None,
    issuer: str,
) -> int:
    """Answer evictions for the API server: yes, or 429 until an owner has consented.

    An admission webhook for `pods/eviction`. It runs in the cluster, twice: `--manifests` prints
    what to apply.

    The certificate that --manifests makes ends after --days. To renew it, print the same again and
    apply it: the running replicas take it. 30 days before, their log says so each day; their
    /metrics tell the time at any time.
    """
    if manifests:
        if image is None:
            raise ConfigError("--image: say what runs, as in registry.example/incumbent:1.0")
        if tls_cert or tls_key:
            raise ConfigError("--manifests makes the certificate: leave --tls-cert and --tls-key")
        chosen = (("--expire-after", expiry_s), ("--handover-wait", handover_s))
        arguments = [
            word for option, value in chosen if value is not None for word in (option, f"{value:g}")
        ]
        _print(
            options,
            image=image,
            guarded=guarded,
            namespace=namespace or "incumbent",
            failure_policy=failure_policy,
            arguments=(*arguments, "--retry-after", str(retry_s)),
            issuer=issuer,
            days=days,
        )
        return codes.OK
    if image or namespace or days or issuer:
        raise ConfigError("--image, --namespace, --days, --cert-manager: add --manifests")
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
                guarded,
                refuse_unseen=failure_policy == "Fail",
                kubeconfig=kubeconfig,
                context=context,
            )
        )
    except KeyboardInterrupt:
        return codes.INTERRUPTED
    return codes.OK


def _print(options: Options, *, days: int | None, **told: Any) -> None:
    from incumbent.consent import objects

    made = objects.Installation(**told)
    pair = None
    if made.issuer and days is not None:
        raise ConfigError("--days is for a certificate that is made here: leave it out")
    if not made.issuer:
        from incumbent.consent import certificates

        pair = certificates.made(objects.service_name(made), days or 365, datetime.now(UTC))
    found = objects.webhook_objects(made, pair)
    if options.json:
        write_json({"apiVersion": "v1", "kind": "List", "items": found})
        return
    from incumbent.manifests.render.yaml import dumped

    click.echo("".join(f"---\n{dumped(one)}" for one in found), nl=False)


async def _serve(
    tls_cert: Path,
    tls_key: Path,
    host: str,
    port: int,
    expiry_s: float | None,
    handover_s: float,
    retry_s: int,
    guarded: tuple[str, ...],
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
    from incumbent.consent.decision import Asked, Rules, Sight, Verdict
    from incumbent.consent.desk import Desk
    from incumbent.consent.server import serve
    from incumbent.consent.sweep import Sweep
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
    trail, sweep = Trail(client, write, now), Sweep(client, guarded)

    def heard(asked: Asked, sight: Sight | None, verdict: Verdict) -> None:
        sweep.heard(asked.namespace)
        trail.heard(asked, sight, verdict)

    desk = Desk(client, rules, refuse_unseen=refuse_unseen, now=now, heard=heard)
    sweeping = asyncio.create_task(sweep.work())
    try:
        await serve(desk, host, port, tls_cert, tls_key, ready)
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await trail.close()
        await client.close()
