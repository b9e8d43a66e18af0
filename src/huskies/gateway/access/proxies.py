"""Who and what a request comes from, where a reverse proxy stands between. Pure.

`X-Forwarded-*` is what anyone may write. It is believed from the addresses that projects.toml lists, and of a
chain of proxies only as far back as each is one of those. That there was a proxy at all is
believed of everyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from multidict import MultiMapping

Network: TypeAlias = IPv4Network | IPv6Network

_FOR: Final = "X-Forwarded-For"
_PROTO: Final = "X-Forwarded-Proto"
_HOST: Final = "X-Forwarded-Host"
# What proxies leave behind, in small letters, and how the rest of it begins.
_TRACES: Final = frozenset(("forwarded", "via", "x-real-ip"))
_TRACE_PREFIX: Final = "x-forwarded-"


class Origin(NamedTuple):
    """Where a request comes from: the client's address, whether it used TLS, and the host that it named.

    `proxied`: a trusted proxy passed it on, and what that says of the user may be believed, too. `direct`:
    it came to an address that only this machine reaches, and nothing says that anyone passed it on; else its
    client may be anywhere, whatever its address.
    """

    address: str
    secure: bool
    host: str
    proxied: bool
    direct: bool


def networks(texts: Sequence[str]) -> list[Network]:
    """Addresses or networks; raises `ValueError` with the text that is neither."""
    return [ip_network(text, strict=False) for text in texts]


def seen(
    *,
    remote: str,
    local: bool,
    secure: bool,
    host: str,
    headers: MultiMapping[str],
    trusted: Sequence[Network],
) -> Origin:
    """What a request that `remote` sent really comes from; `local`: to an address of this machine alone."""
    if not is_among(remote, trusted):
        return Origin(remote, secure, host, proxied=False, direct=local and not is_passed_on(headers))
    client = remote
    for hop in reversed(_joined(headers, _FOR).split(",")):
        address = _address(hop.strip())
        if address is None:
            # Whatever stands here, what stands before it cannot be believed.
            break
        client = str(address)
        if not is_among(client, trusted):
            break
    # Each proxy appends, or there is one alone: the last is what the nearest one says.
    proto = _joined(headers, _PROTO).rpartition(",")[2].strip().lower()
    named = _joined(headers, _HOST).rpartition(",")[2].strip()
    secure = proto == "https" if proto else secure
    return Origin(client, secure, named or host, proxied=True, direct=False)


def is_passed_on(names: Iterable[str]) -> bool:
    """Whether the names of a request's headers show that it came through a proxy, listed or not."""
    small = [name.lower() for name in names]
    return any(name in _TRACES or name.startswith(_TRACE_PREFIX) for name in small)


def is_among(address: str, found: Sequence[Network]) -> bool:
    """Whether an address lies in one of these networks."""
    parsed = _address(address)
    return parsed is not None and any(parsed in network for network in found)


def _joined(headers: MultiMapping[str], name: str) -> str:
    # One that came twice is one list.
    return ",".join(headers.getall(name, []))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    # [::1]:1234 and 10.0.0.1:1234 are what some proxies write.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:
        # A scope, which may be any text, is of no use beyond the machine that says it.
        return None
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
