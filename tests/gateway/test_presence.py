from __future__ import annotations

from huskies import limits
from huskies.gateway.peers.presence import PresenceTable
from huskies.protocol.peer_wire import Presence, Present

OWN, OTHER, THIRD = "a" * 64, "b" * 64, "c" * 64
SHOP = Present("shop", 2)


def said(version: int, *present: Present, gateway_id: str = OTHER) -> Presence:
    return Presence(gateway_id=gateway_id, version=version, present=list(present))


def test_the_newest_word_of_each_gateway_counts() -> None:
    table = PresenceTable(OWN)
    assert table.merge(said(2, SHOP), 0, THIRD)
    assert not table.merge(said(1), 0, THIRD)
    assert not table.merge(said(2), 0, THIRD)
    assert table.merge(said(1, Present("shop", None), gateway_id=THIRD), 0, THIRD)
    assert table.elsewhere(0) == {"shop": [SHOP, Present("shop", None)]}
    assert table.merge(said(3), 0, THIRD)
    assert table.elsewhere(0) == {"shop": [Present("shop", None)]}
    assert len(table.known(0)) == 2


def test_what_a_gateway_says_itself_counts_although_its_clock_was_set_back() -> None:
    table = PresenceTable(OWN)
    table.merge(said(9, SHOP), 0, OTHER)
    assert table.merge(said(2), 0, OTHER)
    assert table.elsewhere(0) == {}


def test_what_it_said_itself_is_no_news() -> None:
    assert not PresenceTable(OWN).merge(said(9, SHOP, gateway_id=OWN), 0, OTHER)


def test_a_gateway_that_is_not_heard_of_is_forgotten() -> None:
    table = PresenceTable(OWN)
    table.merge(said(1, SHOP), 0, OTHER)
    assert table.elsewhere(limits.SILENCE_LIMIT) == {"shop": [SHOP]}
    assert table.elsewhere(limits.SILENCE_LIMIT + 1) == {}
    assert table.known(limits.SILENCE_LIMIT + 1) == []


def test_it_is_said_when_a_sled_comes_or_goes_and_every_now_and_then() -> None:
    table = PresenceTable(OWN)
    assert table.due([SHOP], 1, 0) == said(1, SHOP, gateway_id=OWN)
    assert table.due([Present("shop", 7)], 2, 1) is None
    assert table.due([], 3, 2) == said(3, gateway_id=OWN)
    assert table.due([], 4, 3) is None
    assert table.due([], 5, 2 + limits.PING_INTERVAL) == said(5, gateway_id=OWN)
