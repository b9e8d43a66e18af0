"""What a state machine asks of its shell. A shell carries effects out in order and decides nothing."""

from __future__ import annotations

import msgspec

from huskies.events.model import RelayedEvent
from huskies.protocol.wire import Hello, Snapshot


class Send(msgspec.Struct, frozen=True):
    """Write one text frame."""

    data: bytes


class Ping(msgspec.Struct, frozen=True):
    """Write one ping."""


class End(msgspec.Struct, frozen=True):
    """Close the connection with this WebSocket code; nothing more is sent or taken."""

    close_code: int
    reason: str


# --- asked by the sled's side ----------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True):
    """The gateway welcomed the session: the reconnect delay starts over."""


class Acked(msgspec.Struct, frozen=True):
    """Record that the gateway holds everything up to `seq`."""

    seq: int


class Held(msgspec.Struct, frozen=True):
    """Record that as many gateways as the sled wants hold everything up to `seq`."""

    seq: int


class SetBarrier(msgspec.Struct, frozen=True):
    """Record that nothing from `seq` on may be sent in this epoch; `set_aside` if the event itself may never.

    What comes before it is still delivered under this epoch; then a new one begins.
    """

    seq: int
    set_aside: bool
    reason: str


class OpenEpoch(msgspec.Struct, frozen=True):
    """In one transaction, begin a new epoch that carries over what is held from `carry_from` on."""

    carry_from: int
    reason: str


class TakeSnapshot(msgspec.Struct, frozen=True):
    """Everything is acknowledged: read where the stories stand and hand it to `snapshot_taken`."""


# --- asked by the gateway's side -------------------------------------------------------------------


class Admit(msgspec.Struct, frozen=True):
    """The signature holds: end the sled's older session, settle its commits, then call `admitted`."""

    hello: Hello


class AskOthers(msgspec.Struct, frozen=True):
    """Ask the gateways that this one replicates with how far they hold the epoch, then call `told`."""


class Append(msgspec.Struct, frozen=True):
    """Commit the batch where commits are serialised, then call `committed`, `gap` or `conflict`."""

    first_seq: int
    events: list[RelayedEvent]


class ApplySnapshot(msgspec.Struct, frozen=True):
    """Correct the board."""

    snapshot: Snapshot


SledEffect = Send | Ping | End | Accepted | Acked | Held | SetBarrier | OpenEpoch | TakeSnapshot
GatewayEffect = Send | Ping | End | Admit | AskOthers | Append | ApplySnapshot
