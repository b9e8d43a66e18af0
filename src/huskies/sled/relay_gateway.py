"""One of the gateways that a relay delivers to: how to reach it, and how it went so far."""

from __future__ import annotations

import msgspec

from huskies import limits
from huskies.sled.relay_connect import Connector


class KnownGateway(msgspec.Struct):
    """A gateway of the list; what is counted is counted in a row, until it accepts a session.

    `may_hold`: through which (epoch, seq) it may hold events that it did not acknowledge.
    `superseded`: sessions that another sled with this one's identity ended. `denied`: it said that this sled
    may not relay to it. `gateway_id`: as it last said; empty before it did. `batch_events`: how many events a
    frame to it may have at first.
    """

    connector: Connector
    may_hold: tuple[str, int]
    failures: int = 0
    last_reason: str = ""
    superseded: int = 0
    denied: bool = False
    said_v1: bool = False
    gateway_id: str = ""
    batch_events: int = limits.BATCH_EVENTS_MAX

    @property
    def url(self) -> str:
        """Its URL, by which it is remembered."""
        return self.connector.url

    def failed(self, reason: str) -> bool:
        """A session ended or did not come about; says whether that is worth a line in the log.

        One line for each new reason, and for the 1st, 2nd, 4th, 8th, … attempt in a row.
        """
        self.failures += 1
        is_new = reason != self.last_reason
        self.last_reason = reason
        return is_new or self.failures & (self.failures - 1) == 0

    def accepted(self) -> None:
        """It accepted a session that was not taken over by another sled."""
        self.failures = self.superseded = 0
        self.denied = False
