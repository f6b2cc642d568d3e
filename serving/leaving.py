"""How a running service ends: the gateways finish what they answer, the engines what they run, then Serve goes."""

import asyncio
import logging

from serving.config import ServiceSettings
from serving.logs import log
from serving.premises import Premises, close_front

FRONT_S = 3.0  # how long the front may take to say goodbye to its clients
ENGINES_S = 1.0  # how long engines may finish rows: whoever waited for them has been answered, or never will be
ANSWER_S = 2.0  # how much later than its drain a replica may tell of it


async def leave(settings: ServiceSettings, premises: Premises) -> None:
    """Have all gateways and engines finish what runs, then end Serve; in a cluster of others only our part of it."""
    from ray import serve  # noqa: PLC0415 - `serving.deployment` says why

    from serving.replicas.surroundings import APPLICATION  # noqa: PLC0415

    try:
        await _drain(settings.drain_s)
    except Exception:  # whatever is wrong with it, it has to end
        log("service", "could not drain", level=logging.ERROR, error=True)
    if settings.ray_address:
        await asyncio.to_thread(serve.delete, APPLICATION)
    else:
        close_front(premises.run, FRONT_S)
        await serve.shutdown_async()


async def _drain(seconds: float) -> None:
    from serving.asking import broadcast  # noqa: PLC0415 - these know Ray
    from serving.replicas.surroundings import APPLICATION, ENGINE, GATEWAY  # noqa: PLC0415
    from serving.routing import gateway_handle  # noqa: PLC0415

    told = await broadcast(gateway_handle(GATEWAY, APPLICATION), "drain", seconds, timeout_s=seconds + ANSWER_S)
    ended = await broadcast(gateway_handle(ENGINE, APPLICATION), "drain", ENGINES_S, timeout_s=ENGINES_S + ANSWER_S)
    log("service", "drained", left=sum(left for _, left in told), unfinished=sum(not done for _, done in ended))
