"""A session of ZooKeeper's that lasts, and what of it can be trusted.

Ephemeral nodes go with the session that made them, when the leader of the servers ends it. So it
has to be known, of each term, until when the leader will not.

Theory: what the leader knows
-----------------------------
The leader ends a session T after it last heard of it (T is what was granted at the beginning). It
hears of it when the session is made or taken up by a connection, for that is asked of the leader.
Requests and pings it does not hear of: the server that we are connected to notes them, and tells
what it has noted when the leader asks, every half tick. So a write that a majority has confirmed
proves that the session lived, and not that the leader has heard of it since: a server that stood
still for almost T, wakes up, passes the write on, and is cut off before the leader asks again, has
our session ended a moment after the write.

So a write of ours is *not* what T is counted from. It is counted from an earlier sign of life h, of
which the write proves that the leader knows it:

- that of taking up the connection: the leader itself answered;
- any request on this connection that was answered at least half a tick before the write was sent:
  the leader has asked our server since, and was answered before it was given the write, on the
  same stream. Had it not, the write would not have come to it either.

The session then lasts until h + T at least. `confirm` finds such an h that is not older than
T - TTL, so the session lasts until *send + TTL*, or says that nothing is confirmed yet. Both spans
are counted by our clock and not by the leader's, so one is made longer and the other shorter by
what two clocks may differ (`RATES`). For that T = 1.5 TTL is asked for, and a small read is sent
ten times in a TTL. How long half a tick is, a server tells whoever asks it for a session of no
length: it grants its `minSessionTimeout`, which is two ticks unless somebody has set it to less.

Whoever leads the servers next begins to count anew for every session, which only gives us more; and
a leader that was deposed confirms no write.

Rules
-----
1. A connection that is lost is followed by another one, to the next server, with the same session.
   One at a time: two would take the session from each other.
2. That a session is over is the servers' word, never concluded from our own clock.
3. A session that is over never comes back; whoever wants one makes another.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from incumbent.clock import boottime
from incumbent.errors import SessionGone, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.zookeeper.link import Link, Op, Server, Session, Settings

__all__ = ["KeptSession"]

_log = logging.getLogger("incumbent.stores.zookeeper")

LASTS_TTLS = 1.5
RATES = 1.25
"""(1 + rho) / (1 - rho), for a rho of up to 0.11: see `core.timing`."""
BEATS_PER_TTL = 10
LEAST_ATTEMPT_S = 0.5
PAUSES_S = (0.0, 0.1, 0.2, 0.5, 1.0)


class KeptSession:
    """A session that is kept for as long as this process runs, or until it is closed.

    Attributes:
        over: the servers have ended it.
    """

    def __init__(self, servers: Sequence[Server], settings: Settings, ttl_s: float) -> None:
        self.over = False
        self._servers = list(servers)
        self._settings = settings
        self._ttl_s = ttl_s
        self._session = Session(LASTS_TTLS * ttl_s)
        self._link: Link | None = None
        self._half_tick_s = math.inf
        self._attached_at = 0.0
        self._beats: deque[tuple[float, float]] = deque(maxlen=BEATS_PER_TTL)
        self._outcome: asyncio.Future[Link | StoreError] | None = None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def link(self) -> Link:
        """Return the connection, or wait for what comes of the attempt that is being made.

        Raises:
            SessionGone: the session is over.
            StoreError: there is no connection now.
        """
        if self.over:
            raise SessionGone("the session is over")
        if self._link is not None and not self._link.lost.done():
            return self._link
        if self._keeper.done():
            raise StoreUnavailable("the session was closed")
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        outcome = await asyncio.shield(self._outcome)
        if isinstance(outcome, StoreError):
            raise type(outcome)(*outcome.args)
        return outcome

    async def confirm(self, ops: Sequence[Op]) -> None:
        """Do `ops`, and return if the session lasts for a TTL from the beginning of this call.

        Raises:
            Unmet: they could not be done; a majority says so.
            SessionGone: the session is over.
            StoreUnavailable: it may end before; nothing is known to the contrary yet.
        """
        begun = boottime()
        link = await self.link()
        sent = boottime()
        await link.transact(ops)
        if link is not self._link:
            raise StoreUnavailable(f"{link.server}: the connection was lost meanwhile")
        granted_s = link.granted_s or 0.0
        oldest = begun - (granted_s - self._ttl_s) / RATES
        latest = sent - self._half_tick_s * RATES
        beats = any(oldest <= asked and answered <= latest for asked, answered in self._beats)
        if self._attached_at < oldest and not beats:
            raise StoreUnavailable(f"{link.server}: its leader may not have heard of us lately")

    async def close(self, *, leave: bool) -> None:
        """Keep it no longer; end it at once if `leave`, which removes all of its nodes."""
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper
        self._settle(StoreUnavailable("the store was closed"))
        if self._link is not None:
            if leave:
                await self._link.close()
            else:
                self._link.drop("closed")

    # -- keeping it -------------------------------------------------------------------------------

    def _settle(self, outcome: Link | StoreError) -> None:
        future, self._outcome = self._outcome, None
        if future is not None and not future.done():
            future.set_result(outcome)

    async def _keep(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            try:
                link = await self._attach(self._servers[0])
            except SessionGone as error:
                self.over = True
                self._settle(error)
                return
            except StoreError as error:
                _log.debug("%s", error)
                failures += 1
                self._settle(error)
                self._next_server()
                continue
            failures = 0
            self._settle(link)
            await self._beat(link)
            _log.debug("%s: %s", link.server, link.lost.result())
            self._session = link.session
            self._next_server()

    def _next_server(self) -> None:
        self._servers = self._servers[1:] + self._servers[:1]

    async def _attach(self, server: Server) -> Link:
        if self._half_tick_s == math.inf:
            probe = await self._connected(server, Session(0.001))
            self._half_tick_s = (probe.granted_s or math.inf) / 4
            probe.drop("it was only asked")
        begun = boottime()
        link = await self._connected(server, self._session)
        self._session = link.session
        granted_s = link.granted_s or 0.0
        if granted_s < self._session.timeout_s - 0.002:
            await link.close()
            raise StoreUnusable(
                f"{server} keeps silent sessions for {granted_s:g} s and no longer: with a TTL of "
                f"{self._ttl_s:g} s it takes {self._session.timeout_s:g}; raise maxSessionTimeout "
                "there, or lower ttl_s"
            )
        self._beats.clear()
        self._attached_at, self._link = begun, link
        return link

    async def _connected(self, server: Server, session: Session) -> Link:
        """Connect, and leave time for another server while the session lasts."""
        try:
            async with asyncio.timeout(max(LEAST_ATTEMPT_S, self._ttl_s / 4)):
                return await Link.connected(server, self._settings, session)
        except TimeoutError:
            raise StoreUnavailable(f"{server}: no session in time") from None

    async def _beat(self, link: Link) -> None:
        """Show signs of life until the connection is lost."""
        every_s = self._ttl_s / BEATS_PER_TTL
        while not link.lost.done():
            asked = boottime()
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(self._ttl_s / 2):
                    await link.exists("/")
                self._beats.append((asked, boottime()))
            await asyncio.wait({link.lost}, timeout=every_s)
