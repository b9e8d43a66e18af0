"""What a sled's outbox holds, as far as a session is to know."""

from __future__ import annotations

import msgspec

from huskies.protocol import wire


class OutboxView(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox holds when a session begins.

    Everything from `oldest` to `last_seq` is held; `acked` is the newest acknowledged, `copies` on how many
    gateways the sled wants its events to be, and `held` the newest that so many are known to hold. Nothing
    from `barrier` on may be sent in this epoch (None: no barrier), and the event there is skipped if
    `barrier_set_aside`.
    """

    project: str
    sled_id: str
    epoch: str
    last_seq: int
    acked: int
    oldest: int
    copies: int = 1
    held: int = 0
    barrier: int | None = None
    barrier_set_aside: bool = False
    previous: tuple[wire.PreviousEpoch, ...] = ()
