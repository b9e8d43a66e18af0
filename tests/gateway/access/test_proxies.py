"""What a proxy says is believed where projects.toml lists it, and nowhere else."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from huskies.gateway.access.proxies import Origin, is_among, is_passed_on, networks, seen

TRUSTED = networks(["127.0.0.1", "10.0.0.0/8", "::1"])
FORWARDED = CIMultiDict(
    {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "huskies.example",
    }
)
NOTHING: CIMultiDict[str] = CIMultiDict()


def look(remote: str, **headers: str) -> Origin:
    names = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return seen(remote=remote, local=True, secure=False, host="inner:3000", headers=names, trusted=TRUSTED)


def test_from_anyone_else_nothing_is_believed() -> None:
    found = seen(remote="192.0.2.1", local=True, secure=False, host="h:1", headers=FORWARDED, trusted=TRUSTED)
    assert found == Origin("192.0.2.1", secure=False, host="h:1", proxied=False, direct=False)
    assert not seen(remote="", local=True, secure=False, host="h", headers=FORWARDED, trusted=TRUSTED).proxied
    assert not seen(
        remote="127.0.0.1", local=True, secure=False, host="h", headers=FORWARDED, trusted=[]
    ).proxied


@pytest.mark.parametrize("remote", ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.1.2.3"])
def test_from_a_listed_proxy_it_is(remote: str) -> None:
    found = seen(remote=remote, local=True, secure=False, host="h:1", headers=FORWARDED, trusted=TRUSTED)
    assert found == Origin("203.0.113.7", secure=True, host="huskies.example", proxied=True, direct=False)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        # Who sends made-up hops is found by the first that no trusted proxy could have been asked by.
        ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("203.0.113.7:1234", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("1.2.3.4, nonsense", "127.0.0.1"),
        ("1.2.3.4, nonsense, 10.0.0.9", "10.0.0.9"),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(forwarded: str, address: str) -> None:
    assert look("127.0.0.1", X_Forwarded_For=forwarded).address == address


@pytest.mark.parametrize(
    ("proto", "secure"),
    [("https", True), ("http", False), ("HTTPS", True), ("http, https", True), ("", False)],
)
def test_tls_is_what_the_nearest_proxy_says(proto: str, *, secure: bool) -> None:
    assert look("127.0.0.1", X_Forwarded_Proto=proto).secure is secure


def test_a_proxy_that_says_nothing_changes_nothing() -> None:
    found = Origin("127.0.0.1", secure=False, host="inner:3000", proxied=True, direct=False)
    assert look("127.0.0.1") == found


@pytest.mark.parametrize(
    ("name", "passed_on"),
    [
        *((name, True) for name in ("X-Forwarded-For", "x-forwarded-user", "X-FORWARDED-")),
        *((name, True) for name in ("Forwarded", "forwarded", "Via", "X-Real-IP", "x-real-ip")),
        *((name, False) for name in ("Host", "X-Forward", "Viable", "Authorization", "X-Real")),
    ],
)
def test_what_a_proxy_leaves_behind_is_believed_of_everyone(name: str, *, passed_on: bool) -> None:
    assert is_passed_on([name]) is passed_on
    headers = CIMultiDict({"Host": "localhost", name: ""})
    found = seen(remote="127.0.0.1", local=True, secure=False, host="h", headers=headers, trusted=[])
    assert found == Origin("127.0.0.1", secure=False, host="h", proxied=False, direct=not passed_on)
    trusted = seen(remote="::1", local=True, secure=False, host="h", headers=headers, trusted=TRUSTED)
    assert not trusted.direct


def test_who_comes_by_no_proxy_is_direct() -> None:
    assert seen(remote="127.0.0.1", local=True, secure=False, host="h", headers=NOTHING, trusted=[]).direct


@pytest.mark.parametrize("text", ["localhost", "10.0.0.0/40", "", "300.1.1.1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|xpected"):
        networks([text])


@pytest.mark.parametrize(("address", "among"), [("10.1.2.3", True), ("11.1.2.3", False), ("x", False)])
def test_an_address_is_among_networks_or_not(address: str, *, among: bool) -> None:
    assert is_among(address, TRUSTED) is among
