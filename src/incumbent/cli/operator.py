"""`incumbent operator`: run the operator of Singletons, or print what brings it to a cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import click

from incumbent.cli import codes
from incumbent.cli.answering import Answers, Reply
from incumbent.cli.options import Options, common
from incumbent.cli.output import write_json
from incumbent.errors import ConfigError, MissingExtra

__all__ = ["command"]


_HELP = """\
Make, keep and watch the objects of every Singleton, in one replica at a time.

What a Singleton is, the rights, and two replicas of which one is elected, are brought to a cluster
by

\b
kubectl create namespace incumbent
incumbent operator --manifests --image IMAGE --namespace incumbent |
  kubectl apply --server-side -f -
"""


@click.command("operator", help=_HELP)
@click.option(
    "--only",
    "chosen",
    metavar="NAMESPACE",
    multiple=True,
    help="Look after that one [all]; for several, install an operator in each.",
)
@click.option(
    "--namespace",
    metavar="NAME",
    default="",
    help="Where the operator itself runs, and is elected [the Pod's own].",
)
@click.option("--manifests", is_flag=True, help="Print what is to be applied, and run nothing.")
@click.option("--image", metavar="IMAGE", default="", help="What runs there; with --manifests.")
@click.option(
    "--probe",
    metavar="PATH",
    help="A Unix socket at which `incumbent probe PATH` finds out whether this is alive.",
)
@common(store=False)
def command(
    options: Options,
    chosen: tuple[str, ...],
    namespace: str,
    manifests: bool,
    image: str,
    probe: str | None,
) -> int:
    """Run the operator, or print what installs it."""
    if len(chosen) > 1:
        raise ConfigError(
            f"--only {' --only '.join(chosen)}: an operator looks after one namespace, or after "
            "all: name one, and install another operator for each further one"
        )
    only = "".join(chosen)
    if manifests:
        _print(options, image, namespace, only)
        return codes.OK
    if image:
        raise ConfigError("--image says what --manifests shall print: add that, or leave it out")
    if not options.quiet:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(levelname)s: %(message)s")
    return asyncio.run(_serve(namespace, only, probe))


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


async def _serve(namespace: str, only: str, probe: str | None) -> int:
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

    terms: list[aio.Term] = []

    async def work(term: aio.Term) -> None:
        logging.getLogger("incumbent.operator").info("elected, with token %s", term.token)
        terms.append(term)
        try:
            await operate(connection, only, check=term.check, token=term.token, instance=instance)
        finally:
            terms.clear()

    with _answering(probe, lambda: bool(terms)):
        serving = asyncio.ensure_future(election.lead(work))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            pass
    return codes.OK


@contextmanager
def _answering(path: str | None, works: Callable[[], bool]) -> Iterator[None]:
    """Tell whoever asks at this path that we are alive: that both loops turn, as `run` does.

    Whether the API server answers is not asked. Where it does not, a restart helps nobody.
    """
    if path is None:
        yield
        return
    from incumbent.runtime.keeper import Keeper

    loop, keepers = asyncio.get_running_loop(), Keeper.current().loop

    def tell(reply: Reply) -> None:
        reply(b"active\n" if works() else b"standby\n")

    def turned(reply: Reply) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, reply)

    def take() -> None:
        for reply in answers.take():
            keepers.call_soon_threadsafe(turned, reply)

    with closing(Answers(path)) as answers:
        loop.add_reader(answers.fileno(), take)
        try:
            yield
        finally:
            loop.remove_reader(answers.fileno())
