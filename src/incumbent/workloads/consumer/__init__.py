"""Consumers: the items of a source, one after the other, in order, across failover.

`machine` drives a source and hands its items to a `hand`, which calls the user's handler: `bare`
without a database, or `sealed`, in transactions of the database that `places` knows.

Rules
-----
1. **One at a time, in order.** An item is handed to the handler when the one before it is settled:
   done, found to be done, or among the dead letters. A retry holds up all that come later.
2. **Seal, then read.** A term begins with a transaction that raises the token in the database of
   the effects and reads how far they have come. It waits for a predecessor's open transaction, and
   whatever that one sends later is refused. Only then is the source opened.
3. **Regain first.** What a predecessor had in hand is handled before anything new.
4. **Effect, id and checkpoint are one transaction**, sealed with the token. The term is asked
   once more before the commit; what that cannot see (a pause after it), the seal refuses.
5. **Committed, then told.** The broker hears that an item is done when its transaction is
   committed. If it does not hear, the item comes again and its id says that it is done.
6. **An unknown commit is asked about**, by a new transaction that writes the same id: see
   `incumbent.fencing.progress`. Neither success nor failure is believed.
7. **What fails is retried, then buried.** It goes to the dead letters, is marked as done in the
   same transaction, and the rest goes on in its order. What fails because a server is gone is no
   failure of the item: it is tried until the server is back, and no attempt is counted.

Without a database for the effects, rules 4 and 6 are the user's: each item is handled at least
once, in order, and carries token and id for a fence of theirs.
"""

from __future__ import annotations

from incumbent.workloads.consumer.machine import Machine

__all__ = ["Machine"]
