"""`incumbent consent`: what waits for an owner's consent, and the consent.

`kubectl incumbent consent` is the same. It speaks with the API server and with nobody else: consent
is an annotation on the Pod, and whoever lets evictions through reads it there.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import show, write_json
from incumbent.errors import ConfigError, MissingExtra, StoreUnavailable

if TYPE_CHECKING:
    from incumbent.consent.asking import Standing

__all__ = ["command"]

LIMIT_S = 30.0
_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


@click.command("consent")
@click.argument("name", required=False)
@click.option("--until", metavar="TIME", help="Until then: 2026-05-04T06:00:00Z, 2h, 90m [once].")
@click.option("--revoke", is_flag=True, help="Take it back.")
@click.option("--show", "only_show", is_flag=True, help="Only say how it stands.")
@click.option("-n", "--namespace", default="", help="Where [as the kubeconfig has it].")
@click.option("--context", default="", help="Of the kubeconfig.")
@click.option("--kubeconfig", default="", metavar="PATH", help="Where that is.")
@common(store=False)
def command(
    options: Options,
    name: str | None,
    until: str | None,
    revoke: bool,
    only_show: bool,
    namespace: str,
    context: str,
    kubeconfig: str,
) -> int:
    """Consent that a Pod is evicted: once, or until a time. Without NAME: say what waits.

    NAME is a Pod, or a Deployment or StatefulSet. Consent is of the Pod that runs now, and not of
    the next one of the same name.
    """
    if sum((until is not None, revoke, only_show)) > 1:
        raise click.UsageError("--until, --revoke and --show exclude one another")
    if name is None and (until is not None or revoke):
        raise click.UsageError("say whom: incumbent consent NAME")
    now = datetime.now(UTC)
    allowed: str | datetime | None = None if revoke else "once"
    if until is not None:
        allowed = _moment(until, now)
    found = asyncio.run(
        _carried_out(kubeconfig, context, namespace, name, allowed, now, only_show=only_show)
    )
    if options.json:
        write_json({"pods": [_json(one) for one in found]})
    elif name is None or only_show:
        _draw(found)
    else:
        for one in found:
            click.echo(_in_words(one, revoked=revoke))
    return codes.OK


def _moment(text: str, now: datetime) -> datetime:
    found = _DURATION.fullmatch(text)
    try:
        if found:
            hours, minutes, seconds = (int(part or 0) for part in found.groups())
            return now + timedelta(hours=hours, minutes=minutes, seconds=seconds)
        told = datetime.fromisoformat(text)
        if told.tzinfo is not None:
            return told.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(
        f"--until {text!r}: write a time with its zone, as in 2026-05-04T06:00:00Z, or how long "
        "from now, as in 2h or 90m"
    )


async def _carried_out(
    kubeconfig: str,
    context: str,
    namespace: str,
    name: str | None,
    allowed: str | datetime | None,
    now: datetime,
    *,
    only_show: bool,
) -> list[Standing]:
    try:
        from incumbent.stores.kubernetes.client import Client
    except ModuleNotFoundError:
        raise MissingExtra(
            "this speaks with Kubernetes: pip install 'incumbent[cli,kubernetes]'"
        ) from None
    from incumbent.consent import asking
    from incumbent.stores.kubernetes.config import load

    connection = load(kubeconfig=kubeconfig, context=context)
    client = Client(connection, namespace or connection.namespace)
    try:
        async with asyncio.timeout(LIMIT_S):
            if name is None:
                return await asking.waiting(client, now)
            if only_show:
                return [asking.standing(pod, now) for pod in await asking.find(client, name)]
            return await asking.consent(client, name, allowed, now)
    except TimeoutError:
        raise StoreUnavailable(
            f"the API server {client.url} did not answer within {LIMIT_S:g} s"
        ) from None
    finally:
        await client.close()


# -- output ---------------------------------------------------------------------------------------


def _json(one: Standing) -> dict[str, Any]:
    return {
        "namespace": one.namespace,
        "pod": one.pod,
        "uid": one.uid,
        "node": one.node or None,
        "requested": _iso(one.requested),
        "requested_by": one.by or None,
        "repeated": _iso(one.repeated),
        "consent": one.consent or None,
        "consent_by": one.consented or None,
        "let_go": _iso(one.let_go),
    }


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _draw(found: list[Standing]) -> None:
    if not found:
        click.echo("no eviction waits for consent")
        return
    show(
        (
            (one.pod, one.node, _iso(one.requested) or "–", one.by or "–", one.consent or "–")
            for one in found
        ),
        "pod",
        "node",
        "wanted away since",
        "by",
        "consent",
    )


def _in_words(one: Standing, *, revoked: bool) -> str:
    text = f"{one.namespace}/{one.pod}: "
    if revoked:
        text += "consent was taken back"
    elif one.consent:
        text += f"may be evicted {one.consent}"
    else:
        text += "consent was given, and has been used since"
    if one.requested:
        return f"{text}; {one.by or 'somebody'} has asked for it since {_iso(one.requested)}"
    return f"{text}; nobody has asked for it yet"
