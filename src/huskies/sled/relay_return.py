"""Looking, while a later gateway is used, whether an earlier one of the list answers again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from huskies.protocol.failover import Failover
from huskies.sled.relay_connect import Connector

_log = logging.getLogger("huskies.sled")


@contextlib.asynccontextmanager
async def returning(
    failover: Failover,
    connectors: Sequence[Connector],
    *,
    leave: Callable[[], None],
    chance: Callable[[], float],
    clock: Callable[[], float],
) -> AsyncIterator[None]:
    """Meanwhile, `leave` is called once an earlier gateway is ready; it is what comes next then."""
    if not failover.current:
        yield
        return
    watching = asyncio.create_task(_watch(failover, connectors, leave, chance, clock))
    try:
        yield
    finally:
        watching.cancel()
        [outcome] = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(outcome, Exception):
            _log.error("Earlier gateways were not looked at any more.", exc_info=outcome)


async def _watch(
    failover: Failover,
    connectors: Sequence[Connector],
    leave: Callable[[], None],
    chance: Callable[[], float],
    clock: Callable[[], float],
) -> None:
    while True:
        await asyncio.sleep(failover.probe_delay(chance()))
        for earlier in failover.worth_returning_to(clock()):
            if await connectors[earlier].is_ready():
                _log.info("The gateway at %s answers again and is returned to.", connectors[earlier].url)
                failover.will_return(earlier)
                leave()
                return
