"""`[[poller]]` sections of a file: a folder with a command or function, or a function alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from incumbent.cli.options import Options
from incumbent.cli.poll import CommandHandler
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.working import Piece, observer, refuse_one_process
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings
from incumbent.sync.directory import Directory
from incumbent.sync.poller import Poller
from incumbent.sync.work import Work
from incumbent.workloads.command import Command
from incumbent.workloads.config import Section

__all__ = ["pieces"]

_FILES: dict[str, tuple[type, ...]] = {
    "done": (str,),
    "failed": (str,),
    "order": (str,),
    "ignore": (list,),
    "settle": (str, int, float),
    "backoff": (str, int, float),
    "retries": (int,),
}
_PACE = ("every", "max_every")


def pieces(options: Options, sections: Iterable[Section]) -> list[Piece]:
    """Return a piece of work for each section.

    Raises:
        ConfigError: a section cannot be meant.
    """
    return [_piece(options, section) for section in sections]


def _piece(options: Options, section: Section) -> Piece:
    name = section.name
    directory = section.take("directory", str)
    words, call = section.take_words("command"), section.take("call", str)
    if (words is None) == (call is None):
        raise ConfigError(
            f'{section.where}: say what: command = ["prog", "{{}}"], or call = "module:function"'
        )
    if directory is None and words is not None:
        raise ConfigError(
            f'{section.where}: a command is run for files: add directory = "…", or make it a '
            "[[periodic]] section"
        )
    own = {key: section.take(key, str, int, float) for key in _PACE}
    own |= {"errors": section.take("errors", str)}
    timeout_s = section.take("timeout_s", float, int) if words is not None else None
    delete = directory is not None and section.take("delete", bool)
    if directory is not None:
        own |= {key: section.take(key, *types) for key, types in _FILES.items()}
        if delete and own["done"] is not None:
            raise ConfigError(
                f"{section.where}: delete = true leaves nothing for done: leave one of them out"
            )
    election = section.election()
    section.done()
    if options.store:
        election["store"] = options.store
    state = election.pop("state", None)
    settings = Settings.resolve(name, armed=True, **election)
    refuse_one_process(settings)
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    chosen = {key: value for key, value in own.items() if value is not None} | election
    chosen |= {"state": state, "observer": observer(voice)}
    commands = []
    func: Callable[..., Any]
    if words is None:
        found = section.function(call or "")
        func = found.func if isinstance(found, Poller) else found
    else:
        if (refused := refusal(words[0])) is not None:
            raise ConfigError(f"{section.where}: {refused[1]}")
        commands.append(Command(words, grace_s=settings.timing.grace_s))
        func = CommandHandler(commands[0], settings.store_url, voice, timeout_s)
    try:
        return Piece(name, _work(name, directory, func, chosen, delete=delete), voice, commands)
    except ConfigError as error:
        raise ConfigError(f"{section.where}: {error}") from None


def _work(
    name: str,
    directory: str | None,
    func: Callable[..., Any],
    chosen: dict[str, Any],
    *,
    delete: bool | None,
) -> Work:
    if directory is not None:
        if delete:
            chosen["done"] = None
        return Directory(directory, func, name=name, **chosen)
    if "every" not in chosen:
        raise ConfigError('say how often: every = "30s"')
    return Poller(name, func, **chosen)
