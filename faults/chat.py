"""Fault 5 between the bot and its homeserver: what they say is lost, either is killed; one message each."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
from tests.chat.conftest import push
from tests.cli.conftest import SOURCES
from tests.support.chat_scene import Scene, told
from tests.support.lossy_proxy import LossyProxy
from tests.support.matrix_person import Person
from tests.support.synapse import Synapse, running

from faults.setting import Setting

_SENDING = re.compile(r"/rooms/[^/]+/send/")
_PATIENCE = 180.0
_ROOT = Path(__file__).parents[1]
# A bot that is killed again and again is not started again at once otherwise.
_PROGRAM = ("faults.process", "--limit=BACKOFF_MAX=2", "--")
_UNSETTLED = ("queued", "sending")


def run(setting: Setting) -> None:
    with running(_made(setting.directory / "homeserver")) as synapse:
        asyncio.run(_run(setting, synapse))


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


async def _run(setting: Setting, synapse: Synapse) -> None:
    # It says each time that the homeserver is away.
    logging.getLogger("nio").setLevel(logging.CRITICAL)
    bot = synapse.register("huskies")
    ann = Person(synapse.url, synapse.register("ann"), _made(setting.directory / "ann"))
    scene = Scene(setting.directory / "gateway")
    async with LossyProxy(synapse.url).running() as proxy:
        try:
            await ann.log_in()
            room = await ann.create_room(bot)
            scene.set_up(proxy.url, "huskies", room, ann.user_id)
            gateway = await asyncio.to_thread(
                partial(scene.start, program=_PROGRAM, PYTHONPATH=os.pathsep.join(map(str, (_ROOT, SOURCES))))
            )
            breaker = _Breaker(setting, synapse, proxy, scene.url, gateway.pid)
            # What happens before the first look at the log may be told as part of a summary.
            await breaker.happen("before")
            await ann.hears(room, bot)
            breaker.happened.clear()
            await breaker.break_all()
            await breaker.settle()
            await _judge(setting, breaker.happened, lambda: told(ann, room, bot), ann)
        finally:
            scene.close()
            await ann.close()


async def _judge(setting: Setting, reasons: list[str], heard: Callable[[], list[str]], ann: Person) -> None:
    def counts() -> dict[str, int]:
        lines = [line for text in heard() for line in text.splitlines()]
        return {reason: lines.count(reason) for reason in reasons}

    # All was delivered, so that whatever is there twice stands before the last.
    await ann.until(lambda: all(counts().values()))
    doubled = sorted(reason for reason, count in counts().items() if count > 1)
    assert not doubled, f"{len(doubled)} events are more than one message: {doubled[:5]}"
    setting.report.count("events told", len(reasons))


class _Breaker:
    """Lets things happen, and breaks what carries the news of them."""

    def __init__(self, setting: Setting, synapse: Synapse, proxy: LossyProxy, url: str, gateway: int) -> None:
        self._setting = setting
        self._synapse = synapse
        self._proxy = proxy
        self._url = url
        self._gateway = gateway
        self.happened: list[str] = []
        self._breaks: dict[str, Callable[[], Awaitable[None]]] = {
            "replies lost": self._lose_reply,
            "requests lost": self._lose_request,
            "bots killed": self._kill_bot,
            "bots killed behind a lost reply": self._kill_bot_in_doubt,
            "homeservers killed": self._kill_homeserver,
            "homeservers killed behind a lost reply": self._kill_homeserver_in_doubt,
        }

    async def happen(self, reason: str = "") -> None:
        """A story is blocked, of a project of its own."""
        reason = reason or f"reason {len(self.happened) + 1}"
        self.happened.append(reason)
        event = {
            "type": "story_blocked", "story_id": "1_story_x", "story_name": "", "reason": reason,
            "timestamp_ms": time.time_ns() // 1_000_000,
        }  # fmt: skip
        await push(self._url, event, project=f"project-{len(self.happened)}-{reason.partition(' ')[0]}")

    async def break_all(self) -> None:
        order = list(self._breaks)
        for number in range(self._setting.sizes.chat_breaks):
            if number % len(order) == 0:
                self._setting.rng.shuffle(order)
            name = order[number % len(order)]
            await self._breaks[name]()
            self._setting.report.count(name)

    async def settle(self) -> None:
        """Until the notifier waits for nothing any more."""
        async with aiohttp.ClientSession(self._url) as session:

            async def is_settled() -> bool:
                return not any([await _shown(session, state) for state in _UNSETTLED])

            await _until(is_settled)

    async def _lose_reply(self) -> None:
        await self._lost("loses")

    async def _lose_request(self) -> None:
        await self._lost("drops")

    async def _kill_bot(self) -> None:
        await self.happen()
        await asyncio.sleep(self._setting.rng.uniform(0.0, 0.3))
        await self._end_chat()

    async def _kill_bot_in_doubt(self) -> None:
        await self._lost("loses", self._end_chat)

    async def _kill_homeserver(self) -> None:
        await self.happen()
        await asyncio.sleep(self._setting.rng.uniform(0.0, 0.3))
        await self._restart_homeserver()

    async def _kill_homeserver_in_doubt(self) -> None:
        await self._lost("loses", self._restart_homeserver)

    async def _lost(self, how: str, then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Lose what the bot sends next, or the reply to it; then, while all of it is lost, do that."""
        before = len(self._proxy.lost)

        def once(method: str, path: str) -> bool:
            is_sending = method == "PUT" and _SENDING.search(path) is not None
            return is_sending and (then is not None or len(self._proxy.lost) == before)

        setattr(self._proxy, how, once)
        await self.happen()
        await self._proxy.until_lost(before + 1)
        if then is not None:
            await then()
        setattr(self._proxy, how, lambda _method, _path: False)

    async def _end_chat(self) -> None:
        """SIGKILL the process in which the bot runs, as soon as there is one; the gateway starts another."""

        async def is_there() -> bool:
            return _chat_of(self._gateway) is not None

        await _until(is_there)
        pid = _chat_of(self._gateway)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def _restart_homeserver(self) -> None:
        await asyncio.to_thread(self._synapse.kill)
        self._proxy.cut_all()
        await asyncio.to_thread(self._synapse.start)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await holds():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.05)


async def _shown(session: aiohttp.ClientSession, state: str) -> int:
    async with session.get("/gateway/notifications", params={"state": state}) as answer:
        return len((await answer.json())["notifications"])


def _chat_of(gateway: int) -> int | None:
    children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split()
    for child in children:
        if "\0chat\0" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    return None
