"""`incumbent probe` as one of the commands, for their list and for options in front of it.

It is `probe` that understands the words; mostly the entry point goes there by itself.
"""

from __future__ import annotations

import click

from incumbent.cli import probe
from incumbent.cli.options import Options

__all__ = ["command"]

_WORDS = "incumbent.probe.words"


class _Probe(click.Command):
    """A command whose words are read by another."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words."""
        as_json = ctx.ensure_object(Options).json
        ctx.meta[_WORDS] = [*(["--json"] if as_json else []), *args]
        return []


@click.command("probe", cls=_Probe, add_help_option=False)
@click.pass_context
def command(context: click.Context) -> int:
    """Ask the `incumbent run --probe PATH` of this container whether it is alive."""
    return probe.main(context.meta[_WORDS])
