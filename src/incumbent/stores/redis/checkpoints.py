"""The checkpoints in Redis: a hash for each election, beside the one that has the elections.

    PREFIX/checkpoints/ELECTION      fields: PART → "NONCE TOKEN VALUE"

They do not lie in the worlds of `scripts`. What a server came back with after a restart is no proof
of who holds, so of the elections it is not believed; but how far the work had come is to be kept
over a restart, as well as the server keeps anything. What it lost is lost here, too: with
`appendfsync always` nothing that was confirmed.

1. **One script compares and swaps**, on a primary. That of another role refuses. Several advances
   go to one script, which compares and swaps one after the other. Whether there is room is looked
   at by the server before a script's first write, and not again: so it does all, or refuses all.
2. **A version is the server's history and a random name of the write.** The history is its
   replication id, which is a new one after each start and each promotion. So what was sent before
   is refused after it, though the same entry may stand there again: whoever works still finds out
   by its refusal what the server has forgotten, and writes anew.
3. **Over nothing** any history will do: an absence has no version. What may be written late then is
   the first seal of a term that is over, after the server forgot all that came later; the one who
   leads finds it under a smaller token, and writes its own over it.

Numbers pass as text. Nothing here expires.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import CheckpointMoved, StoreError, StoreUnusable

__all__ = ["RedisCheckpoints"]

_PRELUDE = """
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('INCUMBENT replica')
end
local history = string.match(info, 'master_replid:(%w+)')
if not history then
  return redis.error_reply('INCUMBENT nameless')
end
"""
_READ = _PRELUDE + "return {history, redis.call('HGET', KEYS[1], ARGV[1])}\n"
_LIST = (
    _PRELUDE
    + """
local found = redis.call('HGETALL', KEYS[1])
table.insert(found, 1, history)
return found
"""
)
_SWAP = (
    _PRELUDE
    + """
local found = {history}
for at = 1, #ARGV, 4 do
  local part, wanted_history, wanted, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local now = redis.call('HGET', KEYS[1], part)
  local nonce = now and (string.match(now, '^(%w+) ') or '?') or ''
  if nonce ~= wanted or (wanted ~= '' and history ~= wanted_history) then
    table.insert(found, now)
  else
    redis.call('HSET', KEYS[1], part, entry)
    table.insert(found, entry)
  end
end
return found
"""
)


class Runs(Protocol):
    """What carries out a script; see `client.Client.run`."""

    async def run(
        self, script: str, key: str, *arguments: str | bytes | int, writes: bool
    ) -> list[bytes]:
        """Run a script on one key."""
        ...


class RedisCheckpoints:
    """The checkpoints below one prefix.

    Args:
        client: the server, as it is connected now.
        prefix: the name of the hash that has the elections.
    """

    def __init__(self, client: Callable[[], Runs], prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint."""
        answer = await self._client().run(_READ, self._key(name), part, writes=False)
        return _found(name, part, answer[0], answer[1])

    async def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        history, *words = await self._client().run(_LIST, self._key(name), writes=False)
        pairs = zip(words[::2], words[1::2], strict=True)
        found = [_found(name, part.decode(), history, entry) for part, entry in pairs]
        return sorted(found, key=lambda at: at.part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`."""
        (outcome,) = await self.advance_all([Advance(over, value, token)])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several of one election; return what each came to."""
        words: list[str | bytes] = []
        nonces = [secrets.token_hex(8) for _ in advances]
        for one, ours in zip(advances, nonces, strict=True):
            over = one.over
            history, nonce = over.version if isinstance(over.version, tuple) else ("", "")
            words += [over.part, history, nonce, f"{ours} {one.token} ".encode() + one.value]
        key = self._key(advances[0].over.name)
        now, *entries = await self._client().run(_SWAP, key, *words, writes=True)
        return [
            _outcome(one.over, (now.decode(), ours), entry)
            for one, ours, entry in zip(advances, nonces, entries, strict=True)
        ]

    def _key(self, name: str) -> str:
        return f"{self._prefix}/checkpoints/{name}"


def _outcome(
    over: Checkpoint, ours: tuple[str, str], entry: bytes | None
) -> Checkpoint | StoreError:
    try:
        now = _found(over.name, over.part, ours[0].encode(), entry)
    except StoreUnusable as error:
        return error
    return now if now.version == ours else CheckpointMoved(now)


def _found(name: str, part: str, history: bytes, entry: bytes | None) -> Checkpoint:
    if entry is None:
        return Checkpoint(name, part)
    nonce, _, rest = entry.partition(b" ")
    token, space, value = rest.partition(b" ")
    if not (nonce.isalnum() and token.isdigit() and space):
        raise StoreUnusable(
            f"what is kept as the checkpoint {part!r} of {name!r} is none that a candidate has "
            "written: put it right, or HDEL it and the work starts afresh"
        )
    return Checkpoint(name, part, value, int(token), (history.decode(), nonce.decode()))
