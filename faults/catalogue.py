"""The faults of the suite, by the numbers of the list that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faults import (
    disk_errors,
    gateway_kills,
    network,
    pauses,
    power_loss,
    restores,
    schedules,
    sled_kills,
    slow_reader,
    storm,
)
from faults.setting import Setting


class Fault(NamedTuple):
    """`run` carries it out and raises where its invariant does not hold."""

    number: int
    name: str
    what: str
    run: Callable[[Setting], None]


FAULTS = (
    Fault(1, "gateway-kills", "SIGKILL of the gateway, before commits and before acks", gateway_kills.run),
    Fault(2, "sled-kills", "SIGKILL of sleds, after the outbox commit and after the ack", sled_kills.run),
    Fault(3, "power-loss", "what was not fsynced disappears; controls must lose", power_loss.run),
    Fault(4, "disk-errors", "EIO and ENOSPC on write, fsync and at start", disk_errors.run),
    Fault(5, "network", "resets, black holes, one byte at a time, delays, half-open, lost acks", network.run),
    Fault(7, "schedules", "frames doubled, reordered, re-chunked against the pure core", schedules.run),
    Fault(9, "restores", "older outbox or gateway store restored, a sled cloned in its place", restores.run),
    Fault(10, "slow-reader", "subscribers that read one byte a second", slow_reader.run),
    Fault(11, "storm", "all sleds and subscribers reconnect at once after a restart", storm.run),
    Fault(12, "pauses", "SIGSTOP, clocks an hour off, and a rotating mix of all", pauses.run),
)  # fmt: skip
