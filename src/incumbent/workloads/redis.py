"""A connection to Redis for work: commands one after the other, several, or all at once.

Of redis-py nothing is used but its `Connection`, with every retry switched off, as in the store:
its client sends commands again whose outcome is unknown, and has time limits of its own. A
connection on which an answer is missing is given up, for what comes next on it would be taken for
the answer to something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions as theirs
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from incumbent.errors import ConfigError, IncumbentError, SourceUnavailable
from incumbent.stores.api import StoreURL

__all__ = ["ANSWER_S", "Line", "Refused", "Word"]

ANSWER_S = 10.0
"""How long an answer may take, beside what a command asks to wait for."""

_FORBIDDEN = (theirs.AuthenticationError, theirs.AuthorizationError, theirs.NoPermissionError)
_PASSING = ("NOGROUP", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN")


class Refused(IncumbentError):
    """The server answered with an error that neither time nor a right will mend."""


Word = str | bytes | int


class Line:
    """A connection to one server."""

    def __init__(self, url: StoreURL, ssl_ca_certs: str | None = None) -> None:
        path = url.path.strip("/")
        if path and not (path.isascii() and path.isdecimal()):
            raise ConfigError(f"{path!r} is no number of a database: {url.scheme}://HOST:PORT/0")
        port = url.port or 6379
        self.name = f"{url.scheme}://{url.host or 'localhost'}:{port}/{path or 0}"
        self._settings: dict[str, Any] = {
            "host": url.host or "localhost",
            "port": port,
            "db": int(path or 0),
            "username": url.username,
            "password": url.password,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
        }
        self._secure = url.scheme in ("rediss", "valkeys")
        if self._secure:
            self._settings["ssl_ca_certs"] = ssl_ca_certs
        self._connection: AbstractConnection | None = None

    async def connect(self) -> None:
        """Connect anew.

        Raises:
            SourceUnavailable, ConfigError: it cannot be.
        """
        await self.close()
        kind = SSLConnection if self._secure else Connection
        connection: AbstractConnection = kind(**self._settings)
        self._connection = connection
        try:
            async with asyncio.timeout(ANSWER_S):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (theirs.RedisError, OSError) as error:
            raise await self._lost(error) from error
        except BaseException:
            await self.close()
            raise

    async def ask(self, *words: Word, wait_s: float = 0.0) -> Any:
        """Send a command, and return its answer.

        Raises:
            SourceUnavailable: it may have been carried out.
            Refused, ConfigError: it was not.
        """
        (answer,) = await self.ask_all([words], wait_s=wait_s)
        if isinstance(answer, Exception):
            raise self._meaning(answer)
        return answer

    async def at_once(self, *commands: Sequence[Word], wait_s: float = 0.0) -> list[Any]:
        """Send commands as one transaction, and return their answers.

        Raises:
            SourceUnavailable, Refused, ConfigError: see `ask`; also if one of them is refused.
        """
        answers = await self.ask_all([("MULTI",), *commands, ("EXEC",)], wait_s=wait_s)
        for answer in (*answers, *(answers[-1] if isinstance(answers[-1], list) else ())):
            if isinstance(answer, Exception):
                raise self._meaning(answer)
        result: list[Any] = answers[-1]
        return result

    async def ask_all(
        self, commands: Sequence[Sequence[Word]], *, wait_s: float = 0.0
    ) -> list[Any]:
        """Send commands, and return their answers; one that is an error is among them.

        Raises:
            SourceUnavailable: they may have been carried out.
        """
        connection = self._connection
        if connection is None:
            raise SourceUnavailable("there is no connection")
        answers = []
        try:
            async with asyncio.timeout(ANSWER_S + wait_s):
                await connection.send_packed_command(
                    connection.pack_commands(commands), check_health=False
                )
                for _ in commands:
                    try:
                        answers.append(await connection.read_response())
                    except theirs.ResponseError as error:
                        answers.append(error)
        except (theirs.RedisError, OSError) as error:
            raise await self._lost(error) from error
        except BaseException:
            await self.close()
            raise
        return answers

    async def close(self) -> None:
        """Disconnect at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            except (theirs.RedisError, OSError):
                pass  # It was gone before.

    async def _lost(self, error: Exception) -> IncumbentError:
        await self.close()
        if isinstance(error, _FORBIDDEN):
            return self._meaning(error)
        if isinstance(error, TimeoutError):
            return SourceUnavailable("no whole answer has come in time")
        return SourceUnavailable(" ".join(str(error).split()) or type(error).__name__)

    def _meaning(self, error: Exception) -> IncumbentError:
        text = " ".join(str(error).split())
        if isinstance(error, theirs.BusyLoadingError | theirs.ReadOnlyError):
            return SourceUnavailable(text)
        if isinstance(error, _FORBIDDEN) or text.startswith(("NOAUTH", "NOPERM", "WRONGPASS")):
            return ConfigError(f"{self.name}: {text}")
        return SourceUnavailable(text) if text.startswith(_PASSING) else Refused(text)
