"""A gateway behind a reverse proxy, its operator, and who asks it something from outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from tests.support.reverse_proxy import ReverseProxy

from huskies.gateway.access import audit, tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway


class Behind(NamedTuple):
    """A gateway and the proxy in front of it."""

    gateway: Gateway
    proxy: ReverseProxy
    directory: Path

    def token(self, *scopes: str) -> str:
        file = AccessFile(self.directory)
        name = "-".join(scopes).replace(":", "-")
        _, secret = tokens.create(file, name=name, scopes=scopes, created_by="ann", now_ms=0)
        file.close()
        return secret

    def addresses(self) -> set[str]:
        """Where the audit says that requests came from."""
        file = AccessFile(self.directory)
        found = {entry.address for entry in audit.newest(file, 1_000)}
        file.close()
        return found

    async def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        client: str = "127.0.0.1",
        data: Any = None,
    ) -> aiohttp.ClientResponse:
        connector = aiohttp.TCPConnector(ssl=self.proxy.tls, local_addr=(client, 0))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session,
            session.request(
                method, self.proxy.url + path, headers=headers, data=data, allow_redirects=False
            ) as answer,
        ):
            await answer.read()
            return answer


def basic(user: str, password: str) -> dict[str, str]:
    shown = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {shown}"}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
