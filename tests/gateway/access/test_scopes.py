"""What a token is good for."""

from __future__ import annotations

import pytest

from huskies.gateway.access.scopes import NOTHING, Scopes, parse


@pytest.mark.parametrize(
    ("texts", "scopes"),
    [
        ([], NOTHING),
        (["push:web-shop"], Scopes(pushes=frozenset({"web-shop"}))),
        (["push:a", "push:b"], Scopes(pushes=frozenset({"a", "b"}))),
        (["read:a"], Scopes(reads=frozenset({"a"}))),
        (["read", "read:a"], Scopes(reads=None)),
        (["admin"], Scopes(reads=None, admin=True)),
        (["peer"], Scopes(peer=True)),
    ],
)
def test_scopes_add_up(texts: list[str], scopes: Scopes) -> None:
    assert parse(texts) == scopes


@pytest.mark.parametrize(
    "text",
    ["", "push", "push:", "push:*", "push:a b", "read:", "admin:a", "peer:a", "write", "Read", " read"],
)
def test_what_is_no_scope_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="expected push:PROJECT") as caught:
        parse(["read", text])
    assert repr(text) in str(caught.value)


def test_what_may_be_read_is_what_was_granted() -> None:
    one = parse(["read:a"])
    assert one.may_read("a")
    assert not one.may_read("b")
    assert not one.reads_all
    assert one.may_read_something
    everything = parse(["read"])
    assert everything.may_read("b")
    assert everything.reads_all
    for none in (NOTHING, parse(["push:a"]), parse(["peer"])):
        assert not none.may_read("a")
        assert not none.may_read_something


def test_an_admin_neither_pushes_nor_replicates() -> None:
    admin = parse(["admin"])
    assert admin.may_read("a")
    assert not admin.pushes
    assert not admin.peer
