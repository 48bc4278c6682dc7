"""`incumbent manifests`: reviewed Kubernetes manifests for an application that must not be two.

What is asked for comes from options, from a file, or from both: an option counts more. Options are
put under the names of the fields, so that all that is refused is refused in one place; an error is
then told in the words in which it was asked for.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from incumbent.cli import codes
from incumbent.cli.manifests_wording import in_options
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import show, write_json
from incumbent.errors import ConfigError

if TYPE_CHECKING:
    from incumbent.manifests.model import Application

__all__ = ["command"]

_MODES = ("at-least-one", "at-most-one", "active-standby", "partly-singleton")
_FORMATS = ("yaml", "kustomize", "helm")
_PLAIN = (
    "evidence",
    "grace_s",
    "handover",
    "handover_cordon",
    "image",
    "lease",
    "mode",
    "namespace",
    "owner",
    "priority_class",
    "replicas",
    "routing",
    "store",
    "store_secret",
    "tolerations_s",
    "ttl_s",
    "user",
)
"""The fields that are an option as they are."""


_AFTER = "incumbent.manifests.after_dashes"
_HOW = "what belongs to the application's command stands after `--`, as in `-- python poll.py`"


class _Manifests(click.Command):
    """A command that takes what stands after `--` for the application's, and nothing of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before it."""
        before, after = args, list[str]()
        if "--" in args:
            at = args.index("--")
            before, after = args[:at], args[at + 1 :]
        ctx.meta[_AFTER] = after
        try:
            return super().parse_args(ctx, before)
        except click.UsageError as error:
            if "--" in args or type(error) not in (click.UsageError, click.NoSuchOption):
                raise
            text = error.format_message().rstrip(".")
            raise click.UsageError(f"{text}: {_HOW}", ctx) from None


@click.command(
    "manifests",
    cls=_Manifests,
    options_metavar="[NAME] [options] [-- COMMAND...]",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`kubectl incumbent manifests` is the same. Exit codes: 2 usage or configuration.",
)
@click.argument("name", required=False, metavar="")
@click.option("--mode", type=click.Choice(_MODES), help="How it is kept single.")
@click.option("--image", metavar="IMAGE:VERSION", help="What runs.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Fields as YAML or JSON, - for the standard input; see docs/manifests.md.",
)
@click.option("--namespace", metavar="NAME", help="Where [default].")
@click.option("--owner", metavar="WHO", help="Whom to ask before an only replica is moved.")
@click.option("--replicas", type=int, metavar="N", help="How many, where one is elected [2].")
@seconds("--ttl", "ttl_s", help="Time to live of the lease [15].")
@seconds("--grace", "grace_s", help="How long the work needs to stop.")
@click.option("--tolerations", "tolerations_s", type=int, metavar="S", help="tolerationSeconds.")
@click.option("--lease", metavar="NAME", help="The election [as NAME].")
@click.option("--store", metavar="URL", help="Where the election is kept [Leases of the cluster].")
@click.option("--store-secret", metavar="SECRET/KEY", help="Where the store's URL is kept.")
@click.option(
    "--routing",
    type=click.Choice(["label", "endpointslice"]),
    help="How calls find the active one of several.",
)
@click.option(
    "--evidence",
    is_flag=True,
    default=None,
    help="Take over at once when the kubelet saw the active container end.",
)
@click.option("--port", "ports", multiple=True, metavar="[NAME=]NUMBER", help="What it listens on.")
@click.option("--env", "env", multiple=True, metavar="NAME=TEXT", help="A variable.")
@click.option("--cpu", metavar="AMOUNT", help="Requested, and the limit [100m].")
@click.option("--memory", metavar="AMOUNT", help="Requested, and the limit [128Mi].")
@click.option("--priority-class", metavar="NAME", help="A PriorityClass.")
@click.option("--storage", metavar="SIZE", help="A volume of the only replica, at /data.")
@click.option("--liveness", metavar="PATH|COMMAND", help="What shows that the work goes on.")
@click.option("--readiness", metavar="PATH|COMMAND", help="Asked before calls are sent.")
@click.option("--min-replicas", type=int, metavar="N", help="Of an autoscaler.")
@click.option("--max-replicas", type=int, metavar="N", help="Of an autoscaler.")
@click.option("--companion", metavar="IMAGE:VERSION", help="The stateless service beside it.")
@click.option(
    "--handover",
    is_flag=True,
    default=None,
    help="The active one hands over before it is evicted; see docs/drain.md.",
)
@click.option(
    "--handover-cordon",
    is_flag=True,
    default=None,
    help="With --handover: also when its node is cordoned; adds a ClusterRole to look at nodes.",
)
@click.option(
    "--checkpoints",
    multiple=True,
    metavar="PART",
    help="What the work notes in Leases, as job.main, consumer, poll; see docs/manifests.md.",
)
@click.option("--user", type=int, metavar="UID", help="The user that it runs as [10001].")
@click.option("--guard", is_flag=True, help="With policies against a second replica.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="yaml",
    help="On the standard output, or as files [yaml].",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where kustomize and helm go.",
)
@click.option("--explain", is_flag=True, help="Show who can be two, and for how long.")
@common(store=False)
@click.pass_context
def command(
    context: click.Context,
    options: Options,
    /,
    name: str | None,
    file: Path | None,
    format_: str,
    output: Path | None,
    explain: bool,
    **given: Any,
) -> int:
    """Write Kubernetes manifests for an application that must not be active twice.

    For example: incumbent manifests reports --mode active-standby --image
    registry.example/reports:1.4 -- python -m reports
    """
    if (format_ == "yaml") != (output is None) and not explain:
        raise click.UsageError(
            "--format yaml goes to the standard output: leave --output out"
            if format_ == "yaml"
            else f"--format {format_} is a folder: say which by --output"
        )
    given["store"] = given["store"] or options.store
    app = _application(file, _told(name, context.meta[_AFTER], given))
    if explain:
        _explain(app, options)
    elif output is not None:
        _write(app, format_, output, options)
    elif options.json:
        from incumbent.manifests.objects import objects_of

        write_json({"apiVersion": "v1", "kind": "List", "items": objects_of(app)})
    else:
        from incumbent.manifests.render.yaml import plain

        print(plain(app), end="", flush=True)
    return codes.OK


# -- what is asked for ----------------------------------------------------------------------------


def _told(name: str | None, words: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options under the names of the fields, those that were given."""
    told: dict[str, Any] = {field: given[field] for field in _PLAIN}
    told |= {"name": name, "command": words or None}
    told["guard"] = given["guard"] or None
    told["checkpoints"] = list(given["checkpoints"]) or None
    told["ports"] = [_port(text) for text in given["ports"]] or None
    told["env"] = dict(_variable(text) for text in given["env"]) or None
    told["resources"] = _part(cpu=given["cpu"], memory=given["memory"])
    told["storage"] = _part(size=given["storage"])
    told["companion"] = _part(image=given["companion"])
    told["autoscaling"] = _part(
        min_replicas=given["min_replicas"], max_replicas=given["max_replicas"]
    )
    for field in ("liveness", "readiness"):
        told[field] = _probe(field, given[field])
    return {field: value for field, value in told.items() if value is not None}


def _part(**given: object) -> dict[str, object] | None:
    return {name: value for name, value in given.items() if value is not None} or None


def _port(text: str) -> dict[str, object]:
    name, equals, number = text.rpartition("=")
    if not number.isdecimal() or (equals and not name):
        raise click.BadParameter(f"{text!r} is neither NUMBER nor NAME=NUMBER", param_hint="--port")
    return {"number": int(number), **({"name": name} if name else {})}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=TEXT", param_hint="--env")
    return name, value


def _probe(field: str, text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    if text.startswith("/") and " " not in text:
        return {"path": text}
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint=f"--{field}") from None
    if not found:
        raise click.BadParameter("is neither a path nor a command", param_hint=f"--{field}")
    return {"command": found}


def _application(file: Path | None, told: dict[str, Any]) -> Application:
    from incumbent.manifests.reading import application_of, read

    if file is None:
        try:
            return application_of(told)
        except ConfigError as error:
            raise ConfigError(in_options(str(error))) from None
    fields = read(file)
    for name, value in told.items():
        before = fields.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            fields[name] = {**before, **value}
        else:
            fields[name] = value
    try:
        return application_of(fields)
    except ConfigError as error:
        raise ConfigError(in_options(str(error), told)) from None


# -- what is written ------------------------------------------------------------------------------


def _explain(app: Application, options: Options) -> None:
    from incumbent.manifests.modes import assumption, summary
    from incumbent.manifests.render.table import COLUMNS, rows

    if options.json:
        keys = [column.replace(" ", "_") for column in COLUMNS]
        listed = [dict(zip(keys, row, strict=True)) for row in rows(app)]
        write_json({"name": app.name, "mode": app.mode, "who_can_be_two": listed})
        return
    print(f"{app.name}: {app.mode}. {summary(app.mode)}\n")
    show(rows(app), *COLUMNS, wrap=COLUMNS)
    print(f"\n{assumption(app.mode)}")


def _write(app: Application, format_: str, folder: Path, options: Options) -> None:
    from incumbent.manifests.render import files, helm, kustomize

    made = helm.files_of(app) if format_ == "helm" else kustomize.files_of(app)
    files.write(folder, made)
    if options.json:
        write_json({"written": [str(folder / path) for path in made]})
    elif not options.quiet:
        for path in made:
            print(folder / path)
