"""The work itself, written once and run by either face.

A `Workload` is an ordinary object with one coroutine function, `run(env)`. All that it does, it
does through `Env`: it waits, it reads the clock, it calls the user's functions, and it keeps how
far it has come. It starts no thread and no task that outlives it, and has no loop of its own. So
it does not know which face runs it:

- with asyncio, it runs as a task of the user's loop, and the user's functions are awaited there;
- with threads, it runs on a private loop, and the user's functions are called in the thread that
  leads (and in as many more as were asked for), so that exactly these threads do the work;
- in a test, a clock that is driven by hand decides when it goes on.

Rules for a workload
--------------------
1. When the term is to end it is *cancelled*, and has to end: it gives back what it has, and begins
   nothing. `env.call` begins nothing any more by then.
2. An exception of the user's function is the work's affair (each kind says what it does with it);
   it does not end the term. `LeadershipLost` and `StaleToken` do: they are never caught.
3. What a predecessor had in hand is regained before anything new is begun.
"""

from __future__ import annotations

from incumbent.workloads.env import Clock, Env, Workload

__all__ = ["Clock", "Env", "Workload"]
