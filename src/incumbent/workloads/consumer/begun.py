"""With which item a term begins: so that one that kills its process is given up in the end.

A handler whose process is killed (for memory, by a segmentation fault) leaves no word behind. The
item was not done, so the next term is handed it again, and dies of it in turn. Attempts are counted
in the memory of a term; so this is noted beside the effects.

Rules
-----
1. **One note for each term**, and none for each item: of the first item that is not done. Items are
   done in order, so what has killed a term is the first one of the next. The term in whose middle
   the item came up is not counted for that reason; all others that die of it are.
2. **Noted before the handler is called**, in a transaction of its own that is sealed like those of
   items. Once a later term has begun, a former one can write nothing here.
3. **Taken back if the term ends in order**: by plan, by an exception, by whatever lets our code run
   to its end. What is counted is terms in a row that ended without a word, and had not done the
   item with which they began. A host that dies is one of them, and a network that is cut; so the
   number that is borne is not small.
4. **Nobody is blamed for a neighbour.** Of items that share a transaction, the first may be as
   innocent as it is undone. So after a term that ended without a word, items are handled one by
   one for a while. Then what is innocent is done, and the next term begins with another.
5. **A commit of which nobody heard is asked about by doing it again**: the note has the token of
   the term, which counts itself once.

The note is a row of `incumbent_progress` under a name that no election can have. Without a database
for the effects there is no such place: a broker has none, and to note it in the store of elections
would take rights and a store that such work does not need.
"""

from __future__ import annotations

import json
from hashlib import sha256

from incumbent.fencing import Fence
from incumbent.fencing.progress import Database, advance, done, kept
from incumbent.runtime.term import Term

__all__ = ["Begun", "Deadly"]

_LONGEST = 200


class Deadly(Exception):
    """So many terms have ended without a word that had begun with this item."""


class Begun:
    """The note of one work, in the hands of one term.

    Args:
        term: the term.
        work: the fence of the items.
    """

    def __init__(self, term: Term, work: Fence) -> None:
        name = f"begun:{work.resource}"
        if len(name) > _LONGEST:
            name = f"begun:{sha256(work.resource.encode()).hexdigest()}"
        self._work = work
        self._note = term.fence(name)

    async def begin(self, db: Database, item: str) -> int | None:
        """Note the item; return how many terms before ended with it, or None if it is done.

        Raises:
            StaleToken, LeadershipLost: the end; nothing was noted.
        """
        await self._work.checkpoint_in(db)
        if await done(db, self._work.resource, item):
            return None
        before, terms, token = _read(await self._note.checkpoint_in(db))
        former = terms if before == kept(item) else 0
        if former and token == self._note.token:
            former -= 1
        await self._write(db, item, former + 1)
        return former

    async def take_back(self, db: Database, item: str) -> None:
        """Note that this term ends in order.

        Raises:
            StaleToken, LeadershipLost: see `begin`.
        """
        await self._work.checkpoint_in(db)
        before, terms, token = _read(await self._note.checkpoint_in(db))
        if before == kept(item) and token == self._note.token:
            await advance(db, self._note.resource, _noted(before, terms - 1, 0))

    async def _write(self, db: Database, item: str, terms: int) -> None:
        await advance(db, self._note.resource, _noted(kept(item), terms, self._note.token))


def _noted(item: str, terms: int, token: int) -> str:
    return json.dumps([item, terms, token])


def _read(text: str) -> tuple[str, int, int]:
    """Return what stands there; what cannot be read says nothing against anybody."""
    try:
        item, terms, token = json.loads(text)
        return str(item), int(terms), int(token)
    except (ValueError, TypeError):
        return "", 0, 0
