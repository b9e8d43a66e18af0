"""Someone with a Matrix client: rooms, messages, and what comes back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from nio import (
    AsyncClient,
    AsyncClientConfig,
    Event,
    JoinResponse,
    LoginResponse,
    MegolmEvent,
    RoomCreateResponse,
    RoomSendResponse,
    SyncResponse,
)
from nio.store import SqliteStore
from tests.support.synapse import PASSWORD
from yarl import URL

PATIENCE: Final = 60.0
_ENCRYPTION: Final = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}
_NUMBERS: Final = itertools.count(1)


class Person:
    """A client that is logged in and reads on; `events` are those of rooms, in the order they came."""

    def __init__(self, url: str, user_id: str, directory: Path) -> None:
        config = AsyncClientConfig(store=SqliteStore, encryption_enabled=True)
        directory.mkdir(exist_ok=True)
        self.client = AsyncClient(url, user_id, store_path=str(directory), config=config, ssl=True)
        self.user_id = user_id
        self.events: list[tuple[str, Event]] = []
        self._arrived = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._http = aiohttp.ClientSession()

    async def log_in(self) -> None:
        answer = await self.client.login(PASSWORD)
        assert isinstance(answer, LoginResponse), answer
        await self._read(0)
        self._reading = asyncio.create_task(self._read_on())

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._http.close()
        await self.client.close()
        if self.client.store is not None:
            self.client.store.database.close()

    async def create_room(self, *invited: str, encrypted: bool = False, direct: bool = False) -> str:
        answer = await self.client.room_create(
            invite=invited, is_direct=direct, initial_state=[_ENCRYPTION] if encrypted else []
        )
        assert isinstance(answer, RoomCreateResponse), answer
        await self.until(lambda: answer.room_id in self.client.rooms)
        return str(answer.room_id)

    async def join(self, room_id: str) -> None:
        answer = await self.client.join(room_id)
        assert isinstance(answer, JoinResponse), answer
        await self.until(lambda: room_id in self.client.rooms)

    async def until_joined(self, room_id: str, user_id: str) -> None:
        def is_there() -> bool:
            user = self.client.rooms[room_id].users.get(user_id)
            return user is not None and not user.invited

        await self.until(is_there)

    async def say(self, room_id: str, text: str, **more: Any) -> str:
        return await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text, **more})

    async def react(self, room_id: str, event_id: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send(room_id, "m.reaction", {"m.relates_to": relation})

    async def send(self, room_id: str, kind: str, content: dict[str, Any]) -> str:
        answer = await self.client.room_send(
            room_id, kind, content, tx_id=f"{self.user_id} {next(_NUMBERS)}", ignore_unverified_devices=True
        )
        assert isinstance(answer, RoomSendResponse), answer
        return str(answer.event_id)

    async def put(self, room_id: str, what: str, content: dict[str, Any]) -> int:
        """Send any content as it is; the status that the homeserver answers with."""
        path = f"{self.client.homeserver}/_matrix/client/v3/rooms/{quote(room_id)}/{quote(what)}"
        if what.startswith("send/"):
            path += f"/{next(_NUMBERS)}"
        headers = {"Authorization": f"Bearer {self.client.access_token}"}
        async with self._http.put(URL(path, encoded=True), json=content, headers=headers) as answer:
            return answer.status

    def heard(self, room_id: str, sender: str) -> list[Event]:
        """The messages of someone in a room."""
        return [
            event
            for there, event in self.events
            if there == room_id
            and event.sender == sender
            and (isinstance(event, MegolmEvent) or event.source["type"] == "m.room.message")
        ]

    async def hears(self, room_id: str, sender: str, count: int = 1) -> list[Event]:
        """Wait until someone has said so many messages in a room; all of them."""
        await self.until(lambda: len(self.heard(room_id, sender)) >= count)
        return self.heard(room_id, sender)

    async def devices_of(self, user_id: str) -> dict[str, Any]:
        """The devices of someone that have keys, as the homeserver knows them."""
        headers = {"Authorization": f"Bearer {self.client.access_token}"}
        body: dict[str, Any] = {"device_keys": {user_id: []}}
        path = f"{self.client.homeserver}/_matrix/client/v3/keys/query"
        async with self._http.post(path, json=body, headers=headers) as answer:
            devices: dict[str, Any] = (await answer.json())["device_keys"].get(user_id, {})
            return {name: device["keys"] for name, device in devices.items()}

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(holds)

    async def _read_on(self) -> None:
        while True:
            await self._read(10_000)

    async def _read(self, held_ms: int) -> None:
        answer = await self.client.sync(timeout=held_ms, full_state=held_ms == 0)
        assert isinstance(answer, SyncResponse), answer
        client = self.client
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        if client.should_claim_keys:
            await client.keys_claim(client.get_users_for_key_claiming())
        await client.send_to_device_messages()
        async with self._arrived:
            for room_id, info in answer.rooms.join.items():
                self.events += [(room_id, event) for event in info.timeline.events]
            self._arrived.notify_all()
