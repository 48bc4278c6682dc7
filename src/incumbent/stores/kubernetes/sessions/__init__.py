"""The option `kubernetes://…?session=1`: one Lease per process is renewed, whatever it holds.

The elections are `stores.kv`; here is what makes a `KeyValue` of an API server. A key is a Lease:
`elections/NAME` the one of that name, `sessions/KEY` one named `incumbent-session-KEY`. `wire` says
what stands in them, `watch` how they are followed, `driver` how they are compared and swapped.

Why this and no store of its own: who holds, what a session is, what an absence proves and when a
conflict is believed is the same as in every store with sessions. What Kubernetes lacks is the write
of two objects in one step, and `stores.kv` does without (see the theory there).

Beside the other mode
---------------------
The record of an election is in the Lease of the same name in both modes, so that one writes over
the other only by comparing versions, and each sees what the other holds:

- what is held by a session looks, to `kubernetes://` without the option, like a format that it does
  not know: it leaves it alone; and to client-go like a lease of 68 years;
- what is held without a session is left alone here, whoever it is: its renewals are its own, and
  nothing that could be voided stands behind it;
- what was released is vacant for everybody.

So neither takes over from the other's dead, and a release hands over between them. An elector that
counts its own duration and not the record's (a client-go of before `isLeaseValid`, the Python
client) would take a lease that it never sees renewed: such a one must not be pointed at it.
"""

from __future__ import annotations

from incumbent.stores.kubernetes.sessions.driver import CAPABILITIES, SessionStore

__all__ = ["CAPABILITIES", "SessionStore"]
