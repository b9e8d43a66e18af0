"""Listening where the containers of this machine reach a gateway that listens on loopback alone.

What comes in there is not this machine's: it says who it is, as whatever comes over a network does.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from huskies.containers.engine import Engine
from huskies.containers.errors import EngineError
from huskies.httpd import also_listen
from huskies.urls import is_loopback

_log = logging.getLogger("huskies.gateway")

# Seconds between attempts: the engine may start after the gateway, and its network with its first container.
_RETRY: Final = 5.0


class Bridge:
    """`host` is where the gateway listens itself; `engine` knows where containers are."""

    def __init__(self, host: str, engine: Engine) -> None:
        self._host = host
        self._engine = engine
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._tls: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()
        self._listens_on = ""
        self._problem = ""

    def serve_by(self, runner: web.AppRunner, port: int, tls: ssl.SSLContext | None) -> None:
        """What serves, and on which port: the same everywhere."""
        self._runner, self._port, self._tls = runner, port, tls

    async def ensure(self) -> None:
        """Listen there, if that is needed and can be done now; raises `EngineError` where none answers."""
        runner = self._runner
        if runner is None or not is_loopback(self._host):
            return
        async with self._lock:
            if self._listens_on:
                return
            address = await asyncio.to_thread(self._engine.bridge_address)
            if address is None:
                self._problem = "the engine has no network of its own here"
                return
            try:
                await also_listen(runner, address, self._port, self._tls)
            except OSError as error:
                self._problem = _why_not(address, self._port, error)
                return
            self._listens_on = address
            _log.info("containers reach the gateway at %s:%d", address, self._port)

    async def keep(self, is_needed: Callable[[], bool]) -> None:
        """Listen there as soon as it is needed and can be done."""
        while not self._listens_on:
            if is_needed():
                try:
                    await self.ensure()
                except EngineError as error:
                    _log.debug("containers may not reach the gateway: %s", error)
            await asyncio.sleep(_RETRY)

    def describe(self) -> str:
        """How containers reach the gateway, or why not and what to do."""
        if not is_loopback(self._host):
            return f"the gateway listens on {self._host}:{self._port}"
        if self._listens_on:
            return f"the gateway listens for containers on {self._listens_on}:{self._port}"
        why = self._problem or "nobody asked the engine where"
        return (
            f"the gateway listens on {self._host}:{self._port} alone, since {why}; have it listen where "
            "containers reach it (`huskies gateway --host`), and say by which URL (--gateway-url)"
        )


def _why_not(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"the engine's address {address} is not one of this machine (a remote or rootless engine?)"
    if error.errno == errno.EADDRINUSE:
        return f"another program listens on {address}:{port}"
    return f"{address}:{port} cannot be listened on: {error.strerror}"
