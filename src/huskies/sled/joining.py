"""Joining a gateway with an invitation: the sled's key is known there then, and the gateway's pinned here."""

from __future__ import annotations

import asyncio
import secrets

import aiohttp
import msgspec
from yarl import URL

from huskies import limits
from huskies.errors import ConfigError, HuskiesError
from huskies.protocol import enrolment
from huskies.protocol.enrolment import ENROL_PATH, Enrolled, Enrolment, Invitation
from huskies.sled.keys import Keyring
from huskies.sled.layout import Layout, ensure_state
from huskies.sled.opening import open_store
from huskies.sled.outbox import draw_epoch
from huskies.sled.pins import pin
from huskies.sled.relay_connect import http_base, read_bounded, what_happened
from huskies.sled.state import lock_state
from huskies.sockets import clean
from huskies.tls import Trust

_OK = 200
_NONCE_BYTES = 32
_enrolled = msgspec.json.Decoder(Enrolled)


class _Refusal(msgspec.Struct):
    error: str


async def join(layout: Layout, name: str, url: str, code: str, *, tls: Trust = True) -> Enrolled:
    """Enrol the project's sled at the gateway and pin that one's identity; what the gateway said.

    Raises `ConfigError` where the code, the URL or the directory cannot be used, `HuskiesError` where the
    gateway refuses, or is not the one that the invitation came from.
    """
    invitation = enrolment.parse_code(code)
    if invitation is None:
        raise ConfigError("HUSKIES_INVITE", "expected an invitation as `huskies token invite` gives it")
    base = http_base(url)
    ensure_state(layout)
    lock = lock_state(layout)
    try:
        wanted = _enrolment(layout, name, invitation)
        enrolled = await _ask(base, wanted, tls)
        _check(enrolled, wanted, invitation, name)
        pin(layout, base, enrolled.gateway_id.lower())
        return enrolled
    finally:
        lock.release()


def _enrolment(layout: Layout, name: str, invitation: Invitation) -> Enrolment:
    keyring = Keyring(layout.keys)
    store, _ = open_store(layout, name, keyring, draw_epoch)
    try:
        # What is still delivered under an older name or key is not what comes from now on.
        sled_id = store.head.next_sled_id or store.head.sled_id
    finally:
        store.close()
    nonce = secrets.token_hex(_NONCE_BYTES)
    text = enrolment.sled_text(invitation.id, name, sled_id, nonce)
    return Enrolment(
        invite=invitation.id,
        project=name,
        sled_id=sled_id,
        nonce=nonce,
        proof=enrolment.prove(invitation.key, text),
        signature=keyring.load(sled_id).sign(text).hex(),
    )


async def _ask(base: str, wanted: Enrolment, tls: Trust) -> Enrolled:
    problem = f"the gateway at {base}"
    try:
        async with (
            asyncio.timeout(limits.GREETING_LIMIT),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls), cookie_jar=aiohttp.DummyCookieJar()
            ) as client,
            client.post(
                URL(base + ENROL_PATH), data=msgspec.json.encode(wanted), allow_redirects=False
            ) as response,
        ):
            body = await read_bounded(response)
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise HuskiesError(f"{problem} {what_happened(error)}") from None
    try:
        if status == _OK:
            return _enrolled.decode(body)
        said = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        said = f"HTTP {status}; is this a Huskies gateway?"
    raise HuskiesError(f"{problem} refuses: {clean(said)}")


def _check(enrolled: Enrolled, wanted: Enrolment, invitation: Invitation, name: str) -> None:
    text = enrolment.gateway_text(wanted, enrolled.gateway_id, enrolled.project, enrolled.state)
    if not enrolment.is_proof(invitation.key, text, enrolled.proof):
        raise HuskiesError("what answers there is not the gateway that the invitation came from")
    if enrolled.project != name:
        raise HuskiesError(f"the gateway enrolled project {enrolled.project}, and this one is {name}")
