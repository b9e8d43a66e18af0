"""Headers and queries by themselves: who a request comes from, what it shows, what it asks for."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import quote_from_bytes

from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from fuzz.target import Outcome, Target, always, refused, taken
from huskies.errors import CursorError
from huskies.gateway import api
from huskies.gateway.access import gate, proxies
from huskies.gateway.admission import _hash
from huskies.gateway.store import cursors
from huskies.httpd import bearer, is_foreign

# Made once: its mocks take a hundred times as long as what is looked at.
_REQUEST: Final = make_mocked_request("POST", "/login")
_PROXIES_SAY: Final = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
_TRUSTED: Final = proxies.networks(("10.0.0.0/8", "::1", "fd00::/8"))


def proxied(data: bytes) -> Outcome:
    """Who sent it, then what X-Forwarded-For, -Proto and -Host say; a line each."""
    lines = (data.decode("utf-8", "surrogateescape").split("\n") + [""] * 5)[:5]
    remote, host, *said = lines
    headers = CIMultiDict(zip(_PROXIES_SAY, said, strict=True))
    seen = proxies.seen(
        remote=remote, local=False, secure=False, host=host, headers=headers, trusted=_TRUSTED
    )
    assert seen.proxied == proxies.is_among(remote, _TRUSTED)
    if not seen.proxied:
        assert seen == (remote, False, host, False, False)
        return refused("not of a trusted proxy")
    if seen.address != remote:
        ip_address(seen.address)
    return taken(f"moved {seen.address != remote} tls {seen.secure} named {seen.host != host}")


def shown(data: bytes) -> Outcome:
    """Authorization, Host, Origin and Cookie; a line each, as aiohttp would hand them over."""
    lines = (data.decode("utf-8", "surrogateescape").split("\n") + [""] * 4)[:4]
    names = ("Authorization", "Host", "Origin", "Cookie")
    request = _REQUEST.clone()
    # In its place: what makes a request cannot write bytes that are no text, which aiohttp hands over.
    request._headers = CIMultiDictProxy(CIMultiDict(zip(names, lines, strict=True)))
    secret = bearer(request)
    if secret is not None:
        # Whatever its bytes, it can be looked up.
        _hash(secret)
    foreign, anywhere = is_foreign(request), gate._may_be_pointed_anywhere(lines[1])
    cookie = request.cookies.get(gate.COOKIE)
    if cookie is not None:
        _hash(cookie)
    gate._said(lines[0]).encode()
    if secret is None and cookie is None and foreign:
        return refused("nothing is shown")
    return taken(f"{secret is not None} {cookie is not None} {foreign} {anywhere}")


def queried(data: bytes) -> Outcome:
    """The query of GET /gateway/events."""
    query = quote_from_bytes(data, safe="&=%+")
    request = _REQUEST.clone(rel_url=URL(f"/gateway/events?{query}", encoded=True))
    try:
        wanted = api._filter(request)
        limit = api._number(request, "limit", 1, 1_000)
    except ValueError as error:
        return refused(error)
    assert limit is None or 1 <= limit <= 1_000
    return taken(f"{wanted.project is None} {wanted.type} {wanted.since is None} {limit is None}")


def cursor(data: bytes) -> Outcome:
    """A cursor, whose text settles at once."""
    try:
        found = cursors.parse(data.decode("utf-8", "surrogateescape"))
    except CursorError as error:
        str(error).encode()
        return refused("no cursor")
    assert cursors.parse(str(found)) == found
    return taken()


TARGETS: Final = (
    Target(
        name="header-forwarded",
        opened=always(proxied),
        seeds=(
            b"10.0.0.1\ngw.example\n1.2.3.4, 10.0.0.2\nhttps\nhuskies.example:443",
            b"::1\nlocalhost\n[2001:db8::1]:1234,::ffff:10.0.0.9\nhttp,https\na,b",
            b"10.1.1.1:99\nx\nunknown\n\n",
            b"10.9.9.9\n\n10.0.0.1%eth0, 5.6.7.8:80\nHTTPS\n",
        ),
        words=(b",", b"::ffff:", b"%1", b"]", b"10.0.0.", b"fd00::1", b"0x7f.1"),
    ),
    Target(
        name="header-credentials",
        opened=always(shown),
        seeds=(
            b"Bearer husky_abc\nlocalhost:3000\nhttp://localhost:3000\nhuskies=abc; other=1",
            b"bearer  x\n[::1]:3000\nhttp://[::1]:3000\n__Host-huskies=abc",
            b'Basic YTpi\nevil.example\nnull\nhuskies="a b"; $Version=1',
        ),
        words=(b"Bearer ", b"http://", b"[", b"]", b":99999", b"huskies=", b";", b"\xff", b"@", b"\t"),
    ),
    Target(
        name="query",
        opened=always(queried),
        seeds=(
            b"project=web-shop&type=story_blocked&since=0&until=8640000000000000&limit=1000",
            b"after=12345678-5-abcdef01&story=42_story_%C3%A9&limit=1",
            b"before=latest&limit=100",
        ),
        words=(b"&limit=", b"%ed%a0%80", b"%", b"&project=", b"\xd9\xa3", b"%D9%A3", b"&=&", b"1_0", b"+5"),
    ),
    Target(
        name="cursor",
        opened=always(cursor),
        seeds=(b"12345678-5-abcdef01", b"00000000-9223372036854775807-00000000"),
        words=(b"-", b"\xd9\xa3", b"\n", b"latest"),
    ),
)  # fmt: skip
