"""Orders are taken by every replica, and counted by one: `uvicorn --workers 4 fastapi_app:app`."""

from fastapi import FastAPI

import incumbent
from incumbent import aio
from incumbent.apps.asgi import alive, lifespan, status


@aio.every("2s")
async def count(tick: incumbent.Tick) -> None:
    """Count the orders, in one worker at a time."""
    tick.check()
    print("counting for", tick.id, "with token", tick.token, flush=True)


app = FastAPI(lifespan=lifespan(count))
app.mount("/incumbent", status(count))  # who leads, for people
app.mount("/alive", alive())  # for liveness probes


@app.get("/orders")
def orders() -> list[str]:
    """Answer, in every worker, whoever leads."""
    return ["one", "another"]
