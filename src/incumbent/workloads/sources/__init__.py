"""Where items come from. Which broker, and how it is named in a URL, is decided here.

`api` is what a source must do; each further module is one broker, and they do not know one another.
A URL is that of the broker and has, as an option, what is consumed from:

    postgresql://HOST/DATABASE?queue=orders      redis://HOST/0?stream=orders
    rabbitmq://HOST/VHOST?queue=orders           kafka://HOST:PORT/?topic=orders
"""

from __future__ import annotations

from importlib import import_module

from incumbent.errors import ConfigError, UnknownScheme
from incumbent.stores.api import StoreURL, missing_extra, redact
from incumbent.workloads.sources.api import Item, Joining, Opening, Source

__all__ = ["Item", "Joining", "Opening", "Source", "open_source"]

SOURCES = {
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "kafka": "kafka",
    "kafkas": "kafka",
    "memory": "memory",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "rabbitmq": "rabbitmq",
    "rabbitmqs": "rabbitmq",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
}
"""The module of each scheme. Each has `open(url: StoreURL) -> Source`, which sends nothing."""


def open_source(url: str) -> Source:
    """Return the source that `url` names. It is not connected yet.

    Raises:
        UnknownScheme: there is no such source.
        MissingExtra: there is, but its client library is not installed.
        ConfigError: it is no URL, or one whose rest the source does not understand.
    """
    if "://" not in url:
        raise ConfigError(
            f"{redact(url)!r} is no URL of a source: write, for example, "
            "redis://HOST/0?stream=NAME or postgresql://HOST/DATABASE?queue=NAME"
        )
    parsed = StoreURL.parse(url)
    module = SOURCES.get(parsed.scheme)
    if module is None:
        raise UnknownScheme(
            f"no source answers to {parsed.scheme}:// (in {redact(url)!r}); there are: "
            f"{', '.join(sorted(SOURCES))}"
        )
    try:
        source: Source = import_module(f"incumbent.workloads.sources.{module}").open(parsed)
    except ModuleNotFoundError as error:
        raise missing_extra(parsed.scheme, module, error) from error
    return source
