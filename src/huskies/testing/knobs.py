"""Numbers that decide how often and how much, drawn anew for each seed, so that the rare becomes common."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from random import Random
from typing import Final

from huskies import idle, limits
from huskies.gateway import server
from huskies.gateway.fairness import Fairness
from huskies.gateway.peers import link as peer_link
from huskies.gateway.peers import peers, walk
from huskies.gateway.store import keeper
from huskies.sled import follow, relay_v2
from huskies.testing.surroundings import replaced

# Seconds between two looks at what time did. Each costs a callback, and is most of what an idle hour costs.
_TICKS: Final = (4.0, 10.0)
_LOOK_INTERVAL: Final = 120.0
# How often a sled gives way, by chance: time that nothing takes tells nothing of who is heavy.
_GIVES_WAY: Final = (0.0, 0.1, 1.0)
_LIMITS: Final[dict[str, tuple[int, ...]]] = {
    "BATCH_EVENTS_MAX": (3, 50, 1_000),
    "MAX_IN_FLIGHT": (5, 100, 5_000),
    "BLOCK_EVENTS_MAX": (2, 16, 256),
    "COMMIT_EVENTS_MAX": (4, 100, 10_000),
    "PIECE_EVENTS": (1, 3, 128),
    "SNAPSHOT_STORIES_AT_ONCE": (1, 10, 20_000),
    "RECENT_EVENTS_MAX": (4, 200, 50_000),
    "PEER_FRAME_BYTES": (500, 20_000, 512 << 10),
    "PEER_IN_FLIGHT_BYTES": (2_000, 100_000, 16 << 20),
}


@contextlib.contextmanager
def turned(random: Random) -> Generator[None]:
    """Meanwhile, the numbers are as drawn."""
    drawn: dict[str, float] = {name: random.choice(values) for name, values in _LIMITS.items()}
    drawn["ACCESS_POLL"] = tick = random.choice(_TICKS)
    drawn["MEND_INTERVAL"] = 5 * tick
    gives_way, chance = random.choice(_GIVES_WAY), Random(random.random())  # noqa: S311 - as told by the seed
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(limits, **drawn))
        stack.enter_context(replaced(Fairness, gives_way=lambda _self, _project: chance.random() < gives_way))
        stack.enter_context(replaced(relay_v2, _TICK=tick))
        stack.enter_context(replaced(peer_link, _TICK=tick))
        stack.enter_context(replaced(peers, _PRESENCE_EVERY=tick))
        stack.enter_context(replaced(walk, _LOOK_AGAIN=tick))
        stack.enter_context(replaced(idle, _SWEEP=_LOOK_INTERVAL))
        stack.enter_context(replaced(keeper, _INTERVAL=_LOOK_INTERVAL))
        stack.enter_context(replaced(server, _TICK_INTERVAL=tick))
        stack.enter_context(replaced(follow, _LOOK_INTERVAL=_LOOK_INTERVAL))
        yield
