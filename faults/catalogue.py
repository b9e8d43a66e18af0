"""The faults of the suite, by the numbers of the list that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faults import (
    bit_rot,
    chat,
    disk_errors,
    gateway_kills,
    network,
    partitions,
    pauses,
    power_loss,
    restores,
    schedules,
    simulation,
    sled_kills,
    slow_reader,
    storm,
)
from faults.setting import Setting


class Fault(NamedTuple):
    """`run` carries it out and raises where its invariant does not hold.

    `seconds`: about how long the whole form takes, so that the longest can begin first. `processors`: how
    many it keeps busy; none where it mostly waits.
    """

    number: int
    name: str
    what: str
    run: Callable[[Setting], None]
    seconds: int
    processors: int = 1


# More processors than are given away: what measures time runs beside nothing else.
_ALONE = 3
FAULTS = (
    Fault(1, "gateway-kills", "SIGKILL of the gateway before commits and acks", gateway_kills.run, 350),
    Fault(2, "sled-kills", "SIGKILL of sleds, after the outbox commit and after the ack", sled_kills.run, 80),
    Fault(3, "power-loss", "what was not fsynced disappears; controls must lose", power_loss.run, 220),
    Fault(4, "disk-errors", "EIO and ENOSPC on write, fsync and at start", disk_errors.run, 150),
    Fault(5, "network", "resets, black holes, single bytes, delays, half-open, no acks", network.run, 400, 0),
    Fault(5, "chat", "the same between the bot and its homeserver, and both killed", chat.run, 120),
    Fault(6, "partitions", "gateways cut off from each other while sleds fail over", partitions.run, 180),
    Fault(7, "schedules", "frames doubled, reordered, re-chunked against the pure core", schedules.run, 100),
    Fault(8, "bit-rot", "bits flipped and tails cut in one gateway's store", bit_rot.run, 120),
    Fault(9, "restores", "older outbox or gateway restored, a sled cloned in its place", restores.run, 40),
    Fault(10, "slow-reader", "subscribers that read one byte a second", slow_reader.run, 60, _ALONE),
    Fault(11, "storm", "all sleds and subscribers reconnect at once", storm.run, 40, _ALONE),
    Fault(12, "pauses", "SIGSTOP, clocks an hour off, and a rotating mix of all", pauses.run, 580, 0),
    Fault(12, "simulation", "the same mix, fleets in simulated time", simulation.run, 760),
)  # fmt: skip
