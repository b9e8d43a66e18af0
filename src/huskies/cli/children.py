"""Processes that a gateway runs beside itself, and that end with it, however it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from huskies.cli.client import TOKEN_VARIABLE
from huskies.errors import EXIT_USAGE
from huskies.protocol.backoff import Backoff
from huskies.tls import PIN_VARIABLE

_log = logging.getLogger("huskies.children")

# Set for a process that ends with its stdin: its parent's end is its own, however that comes.
CHILD_VARIABLE: Final = "HUSKIES_CHILD"

# Less than the whole process has for stopping.
_STOP_LIMIT: Final = 2.5
# A child that ran for so long did not fail at once.
_RAN_WELL: Final = 60.0
_LOOK_AGAIN: Final = 2.0
# What kept it from starting may pass without a change of its files: another process that holds its lock.
_TRY_AGAIN: Final = 180.0
# Where a gateway's directory has one of these, there is someone to tell.
_CHAT_FILES: Final = ("notify.toml", "bot.toml")
# Of an address that means "every interface" the child takes the one that is surely there.
_EVERY: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared with, not listened on


def end_with_stdin() -> None:
    """End this process, as SIGTERM does, once its stdin is at its end: then whoever started it is gone."""

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 4_096):
                pass
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


class Child:
    """`huskies` with these arguments, started again where it ends; its output goes where ours does.

    One that cannot use its settings (exit status 2) is started again once one of `files` (TOML) has changed,
    or one that they name, and every few minutes in any case.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[Path]
    ) -> None:
        self._name = name
        self._arguments = arguments
        self._environment = environment
        self._files = files
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to run it."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._gave_up)

    def _gave_up(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            _log.critical("%s is not started again", self._name, exc_info=task.exception())

    async def wait(self) -> None:
        """Until it is stopped: whatever becomes of the child, we go on."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """End it, by force where it does not end in time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_LIMIT):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _run(self) -> None:
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            before, started = self._stamps(), loop.time()
            try:
                status = await self._run_once()
            except OSError as error:
                _log.error("%s cannot be started: %s", self._name, error.strerror)
                status = 1
            if status == EXIT_USAGE:
                advice = "it is started again once they change, and every"
                _log.error("%s cannot use its settings; %s %g min", self._name, advice, _TRY_AGAIN / 60)
                await self._wait_for_change(before)
                continue
            if loop.time() - started >= _RAN_WELL:
                backoff.succeeded()
            wait = backoff.next_delay(random.random())  # noqa: S311 - spreads load
            _log.error("%s ended with status %d; it is started again in %.0f s", self._name, status, wait)
            await asyncio.sleep(wait)

    async def _wait_for_change(self, before: Mapping[Path, tuple[int, int] | None]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_TRY_AGAIN):
                while self._stamps() == before:  # noqa: ASYNC110 - files tell nobody that they change
                    await asyncio.sleep(_LOOK_AGAIN)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "huskies",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment, CHILD_VARIABLE: "1"},
            # Ctrl-C is for us; the child ends when its stdin does.
            start_new_session=True,
        )
        _log.info("%s is started", self._name, extra={"pid": self._process.pid})
        return await self._process.wait()

    def _stamps(self) -> dict[Path, tuple[int, int] | None]:
        stamps: dict[Path, tuple[int, int] | None] = {}
        named = [path for settings in self._files for path in _named_in(settings)]
        for path in (*self._files, *named):
            try:
                found = path.stat()
            except (OSError, ValueError):
                stamps[path] = None
            else:
                stamps[path] = (found.st_mtime_ns, found.st_size)
        return stamps


def _named_in(path: Path) -> list[Path]:
    """The files of secrets that a file of settings names."""
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [path.parent / name for name in _names_in(settings)]


def _names_in(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _names_in(value)
        elif isinstance(value, str) and key.endswith("_file"):
            yield value


def chat_of(
    data_dir: Path, gateway_url: str, *, token: str, pin: Path | None, log_level: str, log_json: bool
) -> Child | None:
    """`huskies chat` for a gateway, where its directory has something for it to do.

    `pin`: the gateway's certificate, if it has one.
    """
    files = [data_dir / name for name in _CHAT_FILES]
    if not any(path.exists() for path in files):
        return None
    for every, one in _EVERY.items():
        gateway_url = gateway_url.replace(f"//{every}:", f"//{one}:")
    arguments = ["chat", "--gateway-url", gateway_url, "--data-dir", str(data_dir)]
    arguments += ["--log-level", log_level, *(["--log-json"] if log_json else [])]
    environment = {TOKEN_VARIABLE: token, **({PIN_VARIABLE: str(pin)} if pin is not None else {})}
    return Child("chat", arguments, environment, files)
