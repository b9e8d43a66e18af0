"""Which sleds are connected to other gateways, as those say. Pure: times come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from huskies import limits
from huskies.protocol.peer_wire import Presence, Present

# A gateway that was not heard of for so long is not known to have anyone connected.
_FRESH: Final = limits.SILENCE_LIMIT


class _Heard(msgspec.Struct):
    version: int
    at: float
    present: dict[str, Present]


class PresenceTable:
    """What other gateways said last; `now` is monotonic seconds."""

    def __init__(self, gateway_id: str) -> None:
        self._gateway_id = gateway_id
        self._heard: dict[str, _Heard] = {}
        self._said: frozenset[str] = frozenset()
        self._said_at = float("-inf")

    def merge(self, said: Presence, now: float, source: str) -> bool:
        """The gateway `source` says so of itself, or passes it on; whether it is news, to be passed on.

        What a gateway says itself always counts: its clock may have been set back.
        """
        if said.gateway_id == self._gateway_id:
            return False
        known = self._heard.get(said.gateway_id)
        if known is not None and known.version >= said.version and said.gateway_id != source:
            return False
        present = {entry.project: entry for entry in said.present}
        self._heard[said.gateway_id] = _Heard(said.version, now, present)
        return True

    def known(self, now: float) -> list[Presence]:
        """What is known of other gateways, for one that just connected."""
        return [
            Presence(gateway_id=gateway_id, version=heard.version, present=list(heard.present.values()))
            for gateway_id, heard in self._heard.items()
            if now - heard.at <= _FRESH
        ]

    def elsewhere(self, now: float) -> dict[str, list[Present]]:
        """How each project's sleds stand with other gateways that were heard of lately."""
        found: dict[str, list[Present]] = {}
        for heard in self._heard.values():
            if now - heard.at <= _FRESH:
                for project, entry in heard.present.items():
                    found.setdefault(project, []).append(entry)
        return found

    def due(self, present: Sequence[Present], version: int, now: float) -> Presence | None:
        """What to say of this gateway's own sleds: when one came or went, and every now and then."""
        names = frozenset(entry.project for entry in present)
        if names == self._said and now - self._said_at < limits.PING_INTERVAL:
            return None
        self._said, self._said_at = names, now
        return Presence(gateway_id=self._gateway_id, version=version, present=list(present))
