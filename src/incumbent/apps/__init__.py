"""Work inside of a web application: it begins and ends with the application, active in one replica.

Every replica answers requests; of the work, one is active. The two have nothing to do with one
another, and so:

- **Readiness is not leadership.** A standby answers requests as well as the leader does. A probe
  that fails on standbys takes all replicas but one out of the Service, and a rolling update that
  waits for readiness never ends. So nothing here says "not ready" of a standby; who leads is told
  by an endpoint of its own, for people.
- **Liveness is not leadership either.** It says that this process's event loop answers. A leader
  that hangs is ended by the kernel's timer, and its work is taken over, whatever a probe says.
- **The death of the work is not the death of the application**, and the other way round it is:
  work that fails is begun anew (`workloads.standing`), and the endpoints go on. But work that
  will not stop when its term is over is ended by the kernel together with its process, worker and
  all, which the server's supervisor replaces. Where that is not wanted: `isolate=True`.

`asgi` is for FastAPI, Starlette and whatever else speaks ASGI; `wsgi` for Flask and the like.
"""

from __future__ import annotations
