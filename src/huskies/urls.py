"""The URLs that settings name: of gateways, and of projects' own servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from huskies.errors import ConfigError

_GATEWAY_URL_RULE: Final = (
    "expected a URL of http, https, ws or wss with a host, without user name, query or fragment, "
    "such as http://gateway.example:3000"
)
_EACH_ONCE: Final = "expected each gateway once; leave out the repetition"


def gateway_base_url(text: str, where: str) -> str:
    """The URL without a trailing slash; raises `ConfigError`, without the URL: it may hold a password."""
    text = text.strip()
    if not is_base_url(text, ("http", "https", "ws", "wss")):
        raise ConfigError(where, _GATEWAY_URL_RULE)
    return text.rstrip("/")


def gateway_base_urls(texts: str | Sequence[str], where: str) -> tuple[str, ...]:
    """Each URL without a trailing slash; a text may hold several, apart by spaces or commas, or none.

    Raises `ConfigError`, also where one gateway is named twice.
    """
    texts = [texts] if isinstance(texts, str) else texts
    urls = tuple(gateway_base_url(url, where) for text in texts for url in split_urls(text))
    if len({_server(url) for url in urls}) < len(urls):
        raise ConfigError(where, _EACH_ONCE)
    return urls


def split_urls(text: str) -> list[str]:
    """The URLs in a text, apart by spaces or commas."""
    return text.replace(",", " ").split()


def _server(url: str) -> tuple[str, str | None, int, str]:
    """What two spellings of one gateway's URL have in common."""
    parts = urlsplit(url)
    tls = parts.scheme in ("https", "wss")
    return "s" * tls, parts.hostname, parts.port or (443 if tls else 80), parts.path


def is_base_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether it is a URL of one of these schemes, with a host and nothing beyond a path."""
    try:
        parts = urlsplit(text)
        # Reading the port is what checks it.
        usable = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return usable and parts.scheme in schemes and bool(parts.hostname) and not _has_extras(text, parts)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_extras(text: str, parts: SplitResult) -> bool:
    return "@" in parts.netloc or any(mark in text for mark in "?#") or not text.isprintable() or " " in text
