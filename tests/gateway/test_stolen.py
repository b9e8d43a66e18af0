"""What someone gains who holds a token that was not meant for them: what its scope says, and no more."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.conftest import Http
from tests.support.operator import Operator
from tests.support.relay_client import (
    ClosedError,
    RelayClient,
    blocked,
    connect,
    join_token,
    new_epoch,
    new_key,
    sled_id_of,
)

from huskies.gateway.openapi import document
from huskies.gateway.server import Gateway

GETS = sorted(path for path, item in document()["paths"].items() if "get" in item)
READERS = ("/gateway/events", "/gateway/projects", "/gateway/digests", "/gateway/peers", "/metrics", "/")
PEERS = ("/gateway/peers", "huskies.peer.v1")


@pytest.fixture
def access(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "gw")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def socket_status(gateway: Gateway, path: str, protocol: str, secret: str) -> int:
    """What a WebSocket is refused with."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(gateway.url + path, headers=bearer(secret), protocols=[protocol])
    return refused.value.status


async def login_status(gateway: Gateway, secret: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/login", data={"token": secret}, allow_redirects=False) as answer,
    ):
        assert "Set-Cookie" not in answer.headers
        return answer.status


# --- a token that reads one project ------------------------------------------------------------------


async def test_a_token_that_reads_one_project_is_told_nothing_of_another_anywhere(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    """Each endpoint, each parameter, each form of an answer; refusals and errors, too."""
    key, epoch = new_key(), new_epoch()
    story = "7_bug_vault"
    hidden = (story, "the combination", sled_id_of(key), epoch)
    async with await connect(gateway.url, "bank", key, epoch) as sled:
        await sled.send_events(1, {**blocked("the combination", story), "story_name": "the combination"})
        await sled.acked(1)
        own = access.make("eve", "read:shop")
        whole = await http(f"{gateway.url}/gateway/events", headers=bearer(access.make("ann", "read")))
        cursor = whole.body["events"][0]["cursor"]
        queries: list[dict[str, Any]] = [
            {}, {"project": "bank"}, {"story": "7_bug_x"}, {"type": "story_blocked"}, {"before": "latest"},
            {"after": cursor}, {"before": cursor}, {"after": "0", "limit": "1"}, {"limit": "0"},
            {"since": "0"},
            {"after": "00000000-1-00000000"}, {"sled_id": "ab" * 32, "epoch": "cd" * 16}, {"seq": "1"},
        ]  # fmt: skip
        for path, query in product(GETS, queries):
            answer = await http(gateway.url + path, headers=bearer(own), **query)
            told = [text for text in hidden if text in f"{answer.body}{dict(answer.headers)}"]
            assert not told, (path, query)
            # That there is a project of this name is not told either.
            assert "bank" not in str(answer.body) or "may not read project bank" in str(answer.body), path
        for query in ({"story": story}, {"project": "bank", "story": story}):
            answer = await http(f"{gateway.url}/gateway/events", headers=bearer(own), **query)
            assert answer.status == 403 or answer.body["events"] == []
    there, nowhere = [
        await http(f"{gateway.url}/gateway/events", headers=bearer(own), project=name)
        for name in ("bank", "none")
    ]
    assert (there.status, str(there.body).replace("bank", "none")) == (nowhere.status, str(nowhere.body))


async def test_a_token_that_reads_lets_nobody_push_replicate_or_make_another(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    for scope in ("read", "read:shop"):
        own = access.make(scope.replace(":", "-"), scope)
        answer = await http(f"{gateway.url}/gateway/tokens", method="POST", headers=bearer(own))
        assert answer.status == 403
        path = "/gateway/events/push?project=shop"
        assert await socket_status(gateway, path, "huskies.relay.v2", own) == 401
        assert await socket_status(gateway, *PEERS, own) in (401, 403)
    assert gateway.log.position == 0


# --- a join token ------------------------------------------------------------------------------------


async def test_a_join_token_that_was_stolen_opens_its_project_once_and_nothing_else(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    """That it holds for 60 s stands in `test_admission.py`."""
    access.make("ann", "read")
    access.make("bank", "push:bank")
    pusher = access.make("ci", "push:shop")
    async with aiohttp.ClientSession() as session:
        stolen = await join_token(session, gateway.url, pusher)
        for_bank = await join_token(session, gateway.url, pusher)
    for path in READERS:
        assert (await http(gateway.url + path, headers=bearer(stolen))).status in (401, 429) or path == "/"
    assert (await http(f"{gateway.url}/gateway/projects", token=stolen)).status == 401
    answer = await http(f"{gateway.url}/gateway/tokens", method="POST", headers=bearer(stolen))
    assert answer.status == 401
    assert await login_status(gateway, stolen) in (401, 429)
    assert await socket_status(gateway, *PEERS, stolen) in (401, 403)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await RelayClient.open(gateway.url, "bank", token=for_bank)
    assert refused.value.status == 403
    async with await RelayClient.open(gateway.url, "shop", token=stolen):
        for spent in (stolen, for_bank):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await RelayClient.open(gateway.url, "shop", token=spent)
            assert refused.value.status == 401


# --- a sled's token ----------------------------------------------------------------------------------


async def test_a_sleds_token_reads_nothing_and_logs_nobody_in(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    access.make("ann", "read")
    own = access.make("ci", "push:shop")
    for path in READERS:
        assert (await http(gateway.url + path, headers=bearer(own))).status == 403, path
    assert await login_status(gateway, own) == 403
    assert await socket_status(gateway, *PEERS, own) in (401, 403)


async def test_who_holds_a_sleds_token_is_no_other_sled(gateway: Gateway, access: Operator) -> None:
    """Neither of another project nor of its own: that takes the key, and one key is of one project."""
    victim, epoch = new_key(), new_epoch()
    bank, shop = access.make("bank", "push:bank"), access.make("ci", "push:shop")
    async with await connect(gateway.url, "bank", victim, epoch, sled_token=bank) as sled:
        for project in ("shop", "bank"):
            token = shop if project == "shop" else bank
            async with await RelayClient.open(gateway.url, project, sled_token=token) as thief:
                named = {"sled_id": sled_id_of(victim)}
                await thief.greet(project, new_key(), epoch, 5, falsified=named)
                frames, _ = await thief.until_closed()
            assert [frame["code"] for frame in frames] == ["unauthorized"]
        # Even with the key: whether the sled is connected, which goes on, or not.
        with pytest.raises(ClosedError, match="unauthorized"):
            await connect(gateway.url, "shop", victim, epoch, sled_token=shop)
        await sled.send_events(1, blocked())
        await sled.acked(1)
    with pytest.raises(ClosedError, match="unauthorized"):
        await connect(gateway.url, "shop", victim, epoch, sled_token=shop)
    assert gateway.log.position == 1
