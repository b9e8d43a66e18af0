"""Fault 11: hundreds of sleds and subscribers that all reconnect after the gateway was restarted.

They are made up, in one process, and speak the real protocol with the product's own backoff: what is measured
is how far apart they return, that each join token is redeemed once, and that nothing is lost on the way.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from tests.support.relay_client import blocked, new_epoch, new_key, sled_id_of

from faults.checker import Identity, check, check_identities
from faults.processes import PATIENCE, Process, whole_log
from faults.setting import Setting
from huskies.protocol import wire
from huskies.protocol.backoff import Backoff

_EVENTS = 4
# Subscribers who follow every project; the others follow one each.
_FOLLOW_ALL = 5
_DOUBLE_REDEEMERS = 20


class Storm:
    """What all of them share: where the gateway is now, and what was seen of them."""

    def __init__(self, setting: Setting, session: aiohttp.ClientSession) -> None:
        self.setting = setting
        self.session = session
        self.url = ""
        self.chance: Callable[[], float] = random.Random(setting.seed).random
        self.tokens: Counter[str] = Counter()
        self.redeemed: Counter[str] = Counter()
        # When each was to try for the first time after its connection broke. When it did also depends on how
        # long this one process takes for 1,500 of them.
        self.returned: list[float] = []

    async def token(self) -> str:
        async with self.session.post(f"{self.url}{wire.TOKENS_PATH}") as answer:
            answer.raise_for_status()
            token: str = (await answer.json())["token"]
        self.tokens[token] += 1
        return token

    def socket(self, project: str, token: str) -> Any:
        return self.session.ws_connect(
            f"{self.url}{wire.PUSH_PATH}",
            params={"project": project},
            headers={"Authorization": f"Bearer {token}"},
            protocols=(wire.SUBPROTOCOL,),
        )


class Client:
    """Connects again for ever, as the product does; `once` is one connection."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.connected = asyncio.Event()
        self._backoff = Backoff()

    async def run(self) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError):
                await self.once()
            delay = self._backoff.next_delay(self.storm.chance())
            if self.connected.is_set():
                self.connected.clear()
                self.storm.returned.append(time.monotonic() + delay)
            await asyncio.sleep(delay)

    def accepted(self) -> None:
        self._backoff.succeeded()
        self.connected.set()

    async def once(self) -> None:
        raise NotImplementedError


class StormSled(Client):
    def __init__(self, storm: Storm, project: str) -> None:
        super().__init__(storm)
        self.project = project
        self.recorded = 0
        self.acked = 0
        self._key, self._epoch = new_key(), new_epoch()

    async def once(self) -> None:
        token = await self.storm.token()
        async with self.storm.socket(self.project, token) as socket:
            self.storm.redeemed[token] += 1
            challenge = await _frame(socket)
            await socket.send_str(json.dumps(self._hello(challenge)))
            welcome = await _frame(socket)
            self.accepted()
            first = welcome["last_seq"] + 1
            events = [blocked(f"{self.project} 1 {seq}") for seq in range(first, self.recorded + 1)]
            if events:
                await socket.send_str(json.dumps({"type": "events", "first_seq": first, "events": events}))
            self.acked = max(self.acked, welcome["last_seq"])
            while True:
                self.acked = max(self.acked, (await _frame(socket))["seq"])

    def _hello(self, challenge: dict[str, Any]) -> dict[str, Any]:
        sled_id = sled_id_of(self._key)
        text = wire.signed_text(
            gateway_id=challenge["gateway_id"],
            nonce=challenge["nonce"],
            project=self.project,
            sled_id=sled_id,
            epoch=self._epoch,
        )
        return {
            "type": "hello", "project": self.project, "sled_id": sled_id, "epoch": self._epoch,
            "last_seq": self.recorded, "signature": self._key.sign(text).hex(),
        }  # fmt: skip


class StormReader(Client):
    def __init__(self, storm: Storm, project: str | None) -> None:
        super().__init__(storm)
        self.project = project
        self.cursors: list[str] = []
        self.last_id: str | None = None
        self.resumed = 0

    async def once(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        query = {"after": "0", **({} if self.project is None else {"project": self.project})}
        async with self.storm.session.get(
            f"{self.storm.url}{wire.EVENTS_PATH}", params=query, headers=headers
        ) as answer:
            answer.raise_for_status()
            self.resumed += self.last_id is not None
            identity = ""
            async for line in answer.content:
                if line.startswith(b"id: "):
                    identity = line[4:-1].decode()
                elif line == b"event: status\n":
                    self.cursors.append(identity)
                elif line.startswith(b"event: "):
                    raise AssertionError(f"a reader was told {line!r}")
                elif line == b"\n":
                    self.last_id = identity
                    self.accepted()


async def _frame(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise aiohttp.ClientConnectionError
    frame: dict[str, Any] = json.loads(message.data)
    return frame


def run(setting: Setting) -> None:
    _allow_files(2 * (setting.sizes.storm_sleds + setting.sizes.storm_readers) + 500)
    asyncio.run(_run(setting))


async def _run(setting: Setting) -> None:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    # Without limits: readers and sleds wait for hours.
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        storm = Storm(setting, session)
        gateway = _start(storm, setting.directory / "gateway")
        sleds = [StormSled(storm, f"storm{number}") for number in range(setting.sizes.storm_sleds)]
        projects = [None] * _FOLLOW_ALL + [sled.project for sled in sleds] * 3
        readers = [StormReader(storm, project) for project in projects[: setting.sizes.storm_readers]]
        tasks = [asyncio.create_task(client.run()) for client in (*sleds, *readers)]
        try:
            gateway = await _storm(storm, gateway, sleds, readers)
            every = _EVENTS * len(sleds)
            await _until(
                lambda: all(len(one.cursors) >= (_EVENTS if one.project else every) for one in readers),
                "the subscribers see everything",
            )
            await _redeem_twice(storm)
            _judge(setting, storm, sleds, readers)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gateway.kill()


async def _storm(
    storm: Storm, gateway: Process, sleds: list[StormSled], readers: list[StormReader]
) -> Process:
    clients: list[Client] = [*sleds, *readers]
    await _until(lambda: all(one.connected.is_set() for one in clients), "all are connected")
    for sled in sleds:
        sled.recorded = _EVENTS // 2
    # Recorded while connected, and sent with the first reconnection; the rest is recorded meanwhile.
    gateway = await _restart(storm, gateway)
    await _until(lambda: all(sled.acked >= _EVENTS // 2 for sled in sleds), "the first events arrive")
    for sled in sleds:
        sled.recorded = _EVENTS
    await _until(lambda: all(one.connected.is_set() for one in clients), "all are connected")
    storm.returned.clear()
    gateway = await _restart(storm, gateway)
    await _until(lambda: all(sled.acked >= _EVENTS for sled in sleds), "everything arrives")
    return gateway


async def _restart(storm: Storm, gateway: Process) -> Process:
    started = time.monotonic()
    gateway.kill()
    gateway = await asyncio.to_thread(_start, storm, storm.setting.directory / "gateway")
    storm.setting.report.note("gateway back after", f"{time.monotonic() - started:.1f} s")
    storm.setting.report.count("restarts")
    return gateway


def _start(storm: Storm, directory: Path) -> Process:
    gateway = Process("gateway", "--port", "0", "--data-dir", str(directory), planted=[])
    storm.url = gateway.find(r"http://127\.0\.0\.1:\d+", 60)[0]
    return gateway


async def _redeem_twice(storm: Storm) -> None:
    """Many try to redeem one token at once: one of them is admitted."""
    token = await storm.token()

    async def redeem(number: int) -> bool:
        try:
            async with storm.socket(f"twice{number}", token):
                return True
        except aiohttp.WSServerHandshakeError:
            return False

    admitted = sum(await asyncio.gather(*(redeem(number) for number in range(_DOUBLE_REDEEMERS))))
    assert admitted == 1, f"one join token admitted {admitted}"


def _judge(setting: Setting, storm: Storm, sleds: list[StormSled], readers: list[StormReader]) -> None:
    log = whole_log(storm.url)
    events = {sled.project: range(1, _EVENTS + 1) for sled in sleds}
    found = [(event["project"], int(event["event"]["reason"].split()[2])) for event in log]
    verdict = check(events, events, found)
    assert verdict.ok, verdict
    identities = check_identities([Identity(event["sled_id"], event["epoch"], event["seq"]) for event in log])
    assert identities.ok, identities
    assert max(storm.tokens.values()) == max(storm.redeemed.values()) == 1
    for reader in readers:
        expected = [event["cursor"] for event in log if reader.project in (None, event["project"])]
        assert reader.cursors == expected, f"{len(reader.cursors)} of {len(expected)} seen"
    report = setting.report
    report.count("sleds", len(sleds))
    report.count("subscribers", len(readers))
    report.count("attempted", len(sleds) * _EVENTS)
    report.count("acknowledged", sum(sled.acked for sled in sleds))
    report.count("found", len(log))
    report.count("join tokens redeemed, each once", len(storm.redeemed))
    spread = max(storm.returned) - min(storm.returned)
    fullest = _most_within(sorted(storm.returned), 0.05)
    report.note("first attempts due over", f"{spread * 1e3:.0f} ms")
    report.note("most within 50 ms", f"{fullest} of {len(storm.returned)}")
    assert spread > 0.3, f"they all returned within {spread} s"
    assert not setting.sizes.judge_times or fullest < len(storm.returned) / 3, f"{fullest} returned at once"


def _most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= time < start + seconds for time in times) for start in times)


async def _until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(6 * PATIENCE):
            while not condition():  # noqa: ASYNC110 - many clients, and no one place that knows
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"did not happen: {what}") from None


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))
