"""Fencing where the work is: seal and check as a part of the user's own write.

    fence = term.fence("ledger")           # names what is protected

    with connection:                       # your transaction, on your connection
        fence.sql(connection)
        ... read, and write ...

Theory
------
A clock cannot stop a write that is in flight. The resource can: it remembers the greatest token
that it has seen, and refuses a smaller one. Two things must hold, and one statement does both:

* **seal**: the new leader writes its token before it reads. Else a write of the old one can slip in
  between the new one's read and its first write;
* **check**: each write is refused if a greater token was there, in the write's own transaction. The
  row that holds the token is locked until that transaction ends, so no other seal comes in between.

So call the fence first in *every* transaction of the term, also in one that only reads. It costs
one statement.

Warning: with the refusal nothing was changed, as long as the transaction is rolled back, which is
what leaving it with an exception does. Do not catch `StaleToken` inside of it.
"""

from incumbent.fencing.fence import Fence

__all__ = ["Fence"]
