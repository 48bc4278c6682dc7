"""Commands as handlers of items, and `[[consumer]]` sections of a file.

An item reaches its command by a file that is its standard input: a pipe would have to be fed
beside the watch over the tree, and a command that does not read would block it. The file has no
name any more when the command has ended.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from tempfile import NamedTemporaryFile
from typing import Any

from incumbent.cli.options import Options
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.working import Piece, observer, refuse_one_process
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings
from incumbent.sync.consumer import Consumer
from incumbent.workloads.command import Command
from incumbent.workloads.config import Section
from incumbent.workloads.sources.api import Item

__all__ = ["ItemCommand", "consumer_of", "pieces"]

_FROM_FILE = ("sh", "-c", 'exec "$@" < "$INCUMBENT_ITEM_FILE"', "sh")
_NUMBERS = ("backoff_s",)
_COUNTS = ("retries", "batch", "prefetch", "remember", "deaths")
_WORDS = ("effects", "dead_letter", "errors")


class ItemCommand:
    """A command as the handler of a consumer without a database."""

    def __init__(
        self, command: Command, store_url: str, voice: Voice, timeout_s: float | None = None
    ) -> None:
        self._command = command
        self._store_url = store_url
        self._voice = voice
        self._timeout_s = timeout_s

    @staticmethod
    def wrapped(argv: Sequence[str]) -> tuple[str, ...]:
        """Return the command with the item's file as its standard input."""
        return (*_FROM_FILE, *argv)

    def __call__(self, item: Item) -> None:
        """Run it once."""
        if item.term is None:
            raise AssertionError("an item that is handled has a term")
        with NamedTemporaryFile("w", prefix="incumbent-item-", encoding="utf-8") as file:
            file.write(line_of(item) + "\n")
            file.flush()
            environment = {
                "INCUMBENT_STORE": self._store_url,
                "INCUMBENT_ITEM": item.id.replace("\0", "\\0"),
                "INCUMBENT_ATTEMPT": str(item.attempt),
                "INCUMBENT_ITEM_FILE": file.name,
            }
            self._voice.detail("item", f"{item.id}, attempt {item.attempt}")
            self._command.run(item.term, environment, self._timeout_s)


def line_of(item: Item) -> str:
    """Return an item as one line of JSON; a body that is no UTF-8 is in Base64."""
    told: dict[str, Any] = {
        "id": item.id,
        "attempt": item.attempt,
        "token": item.token,
        "headers": dict(item.headers),
    }
    try:
        told["body"] = item.text
    except UnicodeDecodeError:
        told["body_base64"] = b64encode(item.body).decode()
    return json.dumps(told)


def consumer_of(name: str, source: str, handler: Callable[..., Any], **settings: Any) -> Consumer:
    """Return a consumer with its handler."""
    consumer = Consumer(name, source, **settings)
    consumer.handler(handler)
    return consumer


def pieces(options: Options, sections: Iterable[Section]) -> list[Piece]:
    """Return a piece of work for each `[[consumer]]`.

    Raises:
        ConfigError: a section cannot be meant.
    """
    return [_piece(options, section) for section in sections]


def _piece(options: Options, section: Section) -> Piece:
    name = section.name
    source = section.take("source", str)
    if source is None:
        raise ConfigError(f'{section.where}: say from where: source = "redis://…?stream=NAME"')
    command, call = section.take_words("command"), section.take("call", str)
    if (command is None) == (call is None):
        raise ConfigError(
            f'{section.where}: say what: command = ["prog", "arg"], or call = "module:function"'
        )
    timeout_s = section.take("timeout_s", float, int)
    settings: dict[str, Any] = {key: section.take(key, float, int) for key in _NUMBERS}
    settings |= {key: section.take(key, int) for key in _COUNTS}
    settings |= {key: section.take(key, str) for key in _WORDS}
    settings = {key: value for key, value in settings.items() if value is not None}
    values = section.election()
    section.done()
    if command is not None and "effects" in settings:
        raise ConfigError(
            f"{section.where}: a command has no part in a transaction: leave effects out, or use "
            'call = "module:function"'
        )
    if call is not None and timeout_s is not None:
        raise ConfigError(f"{section.where}: timeout_s is for a command, which can be ended")
    if options.store:
        values["store"] = options.store
    state = values.pop("state", None)
    resolved = Settings.resolve(name, armed=True, **values)
    refuse_one_process(resolved)
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    commands: list[Command] = []
    handler: Callable[..., Any]
    if command is not None:
        if (refused := refusal(command[0])) is not None:
            raise ConfigError(f"{section.where}: {refused[1]}")
        run = Command(ItemCommand.wrapped(command), grace_s=resolved.timing.grace_s)
        commands.append(run)
        handler = ItemCommand(run, resolved.store_url, voice, timeout_s)
    else:
        handler = section.function(call or "")
    try:
        consumer = consumer_of(
            name, source, handler, state=state, observer=observer(voice), **settings, **values
        )
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{section.where}: {error}") from None
    return Piece(name, consumer, voice, commands)
