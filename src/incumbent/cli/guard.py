"""`incumbent guard`: the policies with which the API server guards marked singletons, as YAML.

Nothing is sent anywhere: what is printed is for `kubectl apply -f -`, and to be read before.
"""

from __future__ import annotations

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import write_json
from incumbent.errors import ConfigError

__all__ = ["command"]


@click.command("guard")
@click.option(
    "--namespace-selector",
    "namespaces",
    metavar="KEY=VALUE",
    multiple=True,
    help="Guard only namespaces with this label; of several, with all [all namespaces].",
)
@click.option("--warn", is_flag=True, help="Refuse nothing: warn, and note it in the audit log.")
@click.option(
    "--exempt",
    metavar="USER",
    multiple=True,
    help="A user that may delete Pods by force: one that fences nodes, say.",
)
@click.option(
    "--no-pod-gc",
    "no_pod_gc",
    is_flag=True,
    help="Refuse it to the Pod garbage collector, too: a Pod stays while its node is away.",
)
@click.option(
    "--custom",
    metavar="GROUP/PLURAL",
    multiple=True,
    help="Custom resources with a Deployment's selector and replicas: argoproj.io/rollouts.",
)
@click.option("--prefix", metavar="NAME", help="What names begin with [incumbent].")
@click.option(
    "--quota",
    metavar="NAMESPACE",
    help="Print the strict alternative instead: a quota of one Pod for that namespace.",
)
@common(store=False)
def command(
    options: Options,
    namespaces: tuple[str, ...],
    warn: bool,
    exempt: tuple[str, ...],
    no_pod_gc: bool,
    custom: tuple[str, ...],
    prefix: str | None,
    quota: str | None,
) -> int:
    """Print policies that refuse a second replica of whatever is marked as a singleton.

    For `kubectl apply -f -`. They refuse each way to scale up, rolling updates that overlap, and
    forced deletions, of workloads with incumbent.dev/singleton=true in their selector.
    """
    from incumbent.manifests import guard

    if quota is not None:
        if namespaces or warn or exempt or no_pod_gc or custom or prefix:
            raise ConfigError("--quota prints a quota and no policies: leave the other options out")
        made = [guard.quota(quota)]
    else:
        made = guard.policies(
            guard.Settings(
                prefix="incumbent" if prefix is None else prefix,
                namespaces=_labels(namespaces),
                warn=warn,
                exempt=exempt,
                pod_gc=not no_pod_gc,
                custom=custom,
            )
        )
    if options.json:
        write_json({"apiVersion": "v1", "kind": "List", "items": made})
    else:
        from incumbent.manifests.render.yaml import dumped

        click.echo("".join(f"---\n{dumped(one)}" for one in made), nl=False)
    return codes.OK


def _labels(given: tuple[str, ...]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--namespace-selector {text!r}: write KEY=VALUE")
        if found.setdefault(key, value) != value:
            raise ConfigError(f"--namespace-selector: no namespace has two values of {key}")
    return found or None
