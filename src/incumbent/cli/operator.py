"""`incumbent operator`: run the operator of Singletons, or print what brings it to a cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import write_json
from incumbent.errors import ConfigError, MissingExtra

__all__ = ["command"]


@click.command("operator")
@click.option("--only", metavar="NAMESPACE", default="", help="Look after that one [all].")
@click.option(
    "--namespace",
    metavar="NAME",
    default="",
    help="Where the operator itself runs, and is elected [the Pod's own].",
)
@click.option("--manifests", is_flag=True, help="Print what is to be applied, and run nothing.")
@click.option("--image", metavar="IMAGE", default="", help="What runs there; with --manifests.")
@common(store=False)
def command(options: Options, only: str, namespace: str, manifests: bool, image: str) -> int:
    """Make, keep and watch the objects of every Singleton, in one replica at a time.

    `incumbent operator --manifests --image IMAGE --namespace NAME | kubectl apply -f -` brings it
    to a cluster: what a Singleton is, its rights, and two replicas of which one is elected.
    """
    if manifests:
        _print(options, image, namespace, only)
        return codes.OK
    if image:
        raise ConfigError("--image says what --manifests shall print: add that, or leave it out")
    if not options.quiet:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(levelname)s: %(message)s")
    return asyncio.run(_serve(namespace, only))


def _print(options: Options, image: str, namespace: str, only: str) -> None:
    from incumbent.operator.install import installation

    for name, value in (("--image", image), ("--namespace", namespace)):
        if not value:
            raise ConfigError(f"{name}: is missing: --manifests needs to know it")
    made = installation(image, namespace, only)
    if options.json:
        write_json({"apiVersion": "v1", "kind": "List", "items": made})
        return
    from incumbent.manifests.render.yaml import dumped

    click.echo("".join(f"---\n{dumped(one)}" for one in made), nl=False)


async def _serve(namespace: str, only: str) -> int:
    from incumbent import aio
    from incumbent.operator.install import NAME
    from incumbent.stores.kubernetes import config

    try:
        from incumbent.operator.controller import operate, require_definition
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"the operator needs the package {missing.name!r}: pip install 'incumbent[operator]'"
        ) from missing
    connection = config.load()
    await require_definition(connection)
    election = aio.Election(NAME, store=f"kubernetes://{namespace or connection.namespace}")
    instance = os.environ.get("POD_NAME") or socket.gethostname()

    async def work(term: aio.Term) -> None:
        logging.getLogger("incumbent.operator").info("elected, with token %s", term.token)
        await operate(connection, only, check=term.check, token=term.token, instance=instance)

    serving = asyncio.ensure_future(election.lead(work))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        pass
    return codes.OK
