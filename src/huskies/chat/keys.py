"""Keys of encrypted rooms: whoever may read what the bot says can do so, before it says it."""

from __future__ import annotations

import asyncio
import logging

from nio import AsyncClient, ErrorResponse, KeysClaimResponse, Response

from huskies.chat.asking import HomeserverError, ask
from huskies.chat.settings import BotSettings
from huskies.sockets import clean

_log = logging.getLogger("huskies.chat")


class Keys:
    """What is due of keys; one thing at a time.

    Two that upload keys at once would give them the same names, and two that share them wait for each other.
    """

    def __init__(self, settings: BotSettings) -> None:
        self._settings = settings
        self._one = asyncio.Lock()

    async def look_after(self, client: AsyncClient) -> None:
        """Upload, ask for and claim whatever keys are due; raises as `ask` does."""
        async with self._one:
            await self._look_after(client)

    async def prepare(self, client: AsyncClient, room_id: str) -> None:
        """See to it that every device that may read the room can; raises as `ask` does."""
        room = client.rooms[room_id]
        if not room.encrypted:
            return
        async with self._one:
            if not room.members_synced:
                await ask(client, client.joined_members(room_id), Response, "the room's members")
            await self._look_after(client)
            if client.olm.should_share_group_session(room_id):
                await self._share(client, room_id)

    async def _look_after(self, client: AsyncClient) -> None:
        if client.should_upload_keys:
            await ask(client, client.keys_upload(), Response, "the upload of keys")
        if client.should_query_keys:
            await ask(client, client.keys_query(), Response, "the devices' keys")
        self._judge_devices(client)
        if client.should_claim_keys:
            await self._claim(client, client.get_users_for_key_claiming())
        for answer in await ask(client, client.send_to_device_messages(), list, "messages to devices"):
            if isinstance(answer, ErrorResponse):
                _log.warning("a message to a device was refused: %s", clean(str(answer)))

    def _judge_devices(self, client: AsyncClient) -> None:
        for device in client.device_store:
            if self._settings.encrypt_to == "all":
                # It may have been another setting's.
                if client.olm.is_device_blacklisted(device):
                    client.unblacklist_device(device)
            elif device.ed25519 in self._settings.devices:
                client.verify_device(device)
            elif (device.user_id, device.id) != (client.user_id, client.device_id):
                client.blacklist_device(device)

    async def _claim(self, client: AsyncClient, wanted: dict[str, list[str]]) -> None:
        await ask(client, client.keys_claim(wanted), KeysClaimResponse, "one-time keys")

    async def _share(self, client: AsyncClient, room_id: str) -> None:
        # Here and not by what follows, which goes on without them where the homeserver refuses.
        if missing := client.get_missing_sessions(room_id):
            await self._claim(client, missing)
        sharing = client.share_group_session(room_id, ignore_unverified_devices=True)
        try:
            await ask(client, sharing, Response, "sharing keys")
        except BaseException:
            # Left behind where keys could not be claimed; whoever sends next would wait for it for ever.
            if (waiting := client.sharing_session.pop(room_id, None)) is not None:
                waiting.set()
            raise
        if _has_left_out(client, room_id):
            # It counts as shared although it was not: what is sent could not be read.
            client.invalidate_outbound_session(room_id)
            raise HomeserverError(f"the keys of {room_id} did not get to every device")


def _has_left_out(client: AsyncClient, room_id: str) -> bool:
    """Whether a device that can be sent the keys of a room was not."""
    shared = client.olm.outbound_group_sessions[room_id]
    done = shared.users_shared_with | shared.users_ignored
    return any(
        (user_id, device.id) not in done and client.olm.session_store.get(device.curve25519) is not None
        for user_id in client.rooms[room_id].users
        for device in client.device_store.active_user_devices(user_id)
    )
