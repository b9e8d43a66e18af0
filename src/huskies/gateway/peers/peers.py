"""The other gateways: dials those that are named, admits those that dial, one connection with each."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies import limits
from huskies.config import PeersEntry
from huskies.gateway.admission import RefusedError
from huskies.gateway.board_store import BoardStore
from huskies.gateway.feed import Feed
from huskies.gateway.keys import gateway_id
from huskies.gateway.peers.asking import UNKNOWN, ask_all
from huskies.gateway.peers.bases import Waits
from huskies.gateway.peers.holders import Holders
from huskies.gateway.peers.link import PeerLink
from huskies.gateway.peers.mending import mend
from huskies.gateway.peers.presence import PresenceTable
from huskies.gateway.store.history import History
from huskies.gateway.store.log import Log
from huskies.protocol import peer_wire as wire
from huskies.protocol.backoff import Backoff
from huskies.protocol.gateway import Elsewhere
from huskies.protocol.peer import PeerSession
from huskies.protocol.vectors import Origin
from huskies.protocol.wire import CLOSE_GOING_AWAY, DRAINING, UNAUTHORIZED
from huskies.signing import is_signed
from huskies.sockets import Socket, clean, websocket_url
from huskies.tls import trusted

_log = logging.getLogger("huskies.peers")

_PRESENCE_EVERY: Final = 1.0
_REFILL_POLL: Final = 0.05


class PeerState(msgspec.Struct, frozen=True):
    """How the connection with another gateway stands; `unsent` is None while there is none."""

    url: str | None
    gateway_id: str | None
    connected: bool
    unsent: int | None
    last_error: str | None


class Dialed(msgspec.Struct):
    """A gateway that is dialed."""

    url: str
    link: PeerLink | None = None
    peer_id: str = ""
    last_error: str | None = None


class Peers:
    """All connections with other gateways; `policy` is what projects.toml says of them now."""

    def __init__(
        self,
        *,
        log: Log,
        feed: Feed,
        history: History,
        boards: BoardStore,
        holders: Holders,
        key: Ed25519PrivateKey,
        policy: Callable[[], PeersEntry],
        urls: Sequence[str],
        token: str | None,
        tls_ca: Path | None,
        loopback: bool,
        present: Callable[[], list[wire.Present]],
        end_session: Callable[[str], None],
        lets_replicate: Callable[[str], str | None],
        now_ms: Callable[[], int],
    ) -> None:
        self.log = log
        self.feed = feed
        self.history = history
        self.boards = boards
        self.holders = holders
        self.gateway_id = gateway_id(key)
        self._key = key
        self._policy = policy
        self._token = token
        self._tls_ca = tls_ca
        self._loopback = loopback
        self._links: dict[str, PeerLink] = {}
        self._serving: set[PeerLink] = set()
        self.presence = PresenceTable(self.gateway_id)
        self._present = present
        self._end_session = end_session
        self._lets_replicate = lets_replicate
        self._now_ms = now_ms
        self._dialed = [Dialed(url) for url in urls]
        self.waits = Waits()
        # The ids of those that did not acknowledge in time what they were sent.
        self.slow: set[str] = set()
        self._stopping = False

    def start(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """Begin to dial, and what else goes on for as long as the gateway runs."""
        self.log.on_repaired.append(lambda _: self._rescan())
        for work in (*map(self._keep, self._dialed), self._say_presence(), mend(self.log, self._open_links)):
            spawn(work)

    async def stop(self) -> None:
        """End all connections."""
        self._stopping = True
        links = list(self._serving)
        for link in links:
            link.end(DRAINING, "the gateway is stopping", CLOSE_GOING_AWAY)
        await asyncio.gather(*(link.ended.wait() for link in links))

    async def refill(self) -> bool:
        """Wait until an empty log holds what some other gateway held; False where nothing comes in time.

        A gateway that lost its disk would else be taken for one that never had anything: a sled that no
        longer keeps what was once acknowledged would begin a new history, and then the old one come back.
        """
        now = asyncio.get_running_loop().time
        position, moved_at = self.log.position, now()
        while now() - moved_at < limits.REFILL_PATIENCE:
            if any(link.has_caught_up() for link in self._open_links()):
                return True
            await asyncio.sleep(_REFILL_POLL)
            if self.log.position != position:
                position, moved_at = self.log.position, now()
        return False

    @property
    def are_named(self) -> bool:
        """Whether this gateway is to connect to others."""
        return bool(self._dialed)

    def check(self, token: str | None, *, is_open: bool) -> str | None:
        """Whether who presents this token may connect, and by which token of the guard's, if by one.

        `is_open`: whoever asks may read without a token. Raises `RefusedError`.
        """
        expected = self._expected_token()
        token_id = None if token is None else self._lets_replicate(token)
        if token_id is None and expected is None and not (self._loopback and is_open):
            raise RefusedError(403, "no peer token is set here: set HUSKIES_PEER_TOKEN")
        if token_id is None and expected is not None and not _is_same(token, expected):
            raise RefusedError(401, "the peer token is wrong" if token else "a peer token is needed")
        if self._stopping:
            raise RefusedError(503, "the gateway is stopping")
        return token_id

    def end_revoked(self, is_valid: Callable[[str], bool]) -> None:
        """End the connections whose tokens are valid no more."""
        for link in list(self._serving):
            if link.token is not None and not is_valid(link.token):
                link.end(UNAUTHORIZED, "the token was revoked")

    async def accept(self, request: web.Request, token: str | None = None) -> web.StreamResponse:
        """Carry a connection that another gateway dialed, by this token of the guard's."""
        socket = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,),
            timeout=limits.CLOSE_LIMIT,
            autoping=False,
            compress=False,
            max_msg_size=limits.PEER_FRAME_BYTES_MAX,
            decode_text=False,
        )
        if not socket.can_prepare(request).ok:
            raise RefusedError(426, "this endpoint is a WebSocket")
        await socket.prepare(request)
        link = PeerLink(self, socket, self._session(), dialed=False)
        link.token = token
        reason = await self._serve(link)
        _log.info("a gateway disconnected: %s", reason)
        return socket

    def admit(self, link: PeerLink) -> tuple[str, str] | None:
        """Whether this link may carry on, now that it is known who it is; else the code and reason."""
        allowed = self._policy().gateways
        if allowed and link.peer_id not in allowed:
            return UNAUTHORIZED, "this gateway_id is not among those that projects.toml allows"
        older = self._links.get(link.peer_id)
        if older is not None and older is not link:
            # Where both dialed, both keep the connection that the lower gateway_id began. Of two that the
            # same one began the newer counts: the older is one whose end was not noticed yet.
            if older.dialed != link.dialed and self._lower_dialed(older):
                return wire.DUPLICATE, "the two gateways are connected already"
            older.end(wire.DUPLICATE, "a newer connection took its place")
        self._links[link.peer_id] = link
        return None

    async def ask(self, origin: Origin) -> Elsewhere | None:
        """How far other gateways hold an epoch, those behind others too; None where there are none."""
        if not self._dialed and not self._links:
            return None
        return await self._ask(origin, {self.gateway_id})

    async def answer(self, ask: wire.Ask) -> wire.Answer:
        """What is to be said to another gateway's question: the sled is with that one now."""
        origin = (ask.sled_id.lower(), ask.epoch)
        self._end_session(origin[0])
        elsewhere = await self._ask(origin, {*(peer_id.lower() for peer_id in ask.asked), self.gateway_id})
        # Behind whatever of it is on its way into the log.
        live = await self.log.call(lambda _: self.log.sequences.live(origin))
        last_seq = max(0 if live is None else live.last_seq, elsewhere.last_seq)
        return wire.Answer(
            number=ask.number,
            last_seq=last_seq,
            complete=elsewhere.complete,
            asked=sorted({*elsewhere.asked, self.gateway_id}),
        )

    async def _ask(self, origin: Origin, asked: set[str]) -> Elsewhere:
        links = {link.peer_id: link for link in self._open_links()}
        named = {dialed.peer_id if dialed.link is None else dialed.link.peer_id for dialed in self._dialed}
        others = {peer_id: link for peer_id, link in links.items() if peer_id not in asked}
        if named - links.keys() - asked or len(asked) + len(others) >= limits.ASKED_MAX:
            return UNKNOWN
        return await ask_all(others, origin, asked)

    def greet(self, link: PeerLink) -> None:
        """Tell a gateway that just connected who is connected where."""
        link.say_presence(self._own_presence(self._present()))
        for known in self.presence.known(asyncio.get_running_loop().time()):
            link.say_presence(known)

    def take_presence(self, presence: wire.Presence, source: PeerLink) -> None:
        """A gateway's sleds, as it says or another passes on: if that is news, everyone else hears of it."""
        if self.presence.merge(presence, asyncio.get_running_loop().time(), source.peer_id):
            for link in self._serving:
                if link is not source:
                    link.say_presence(presence)

    def others(self, link: PeerLink) -> tuple[list[PeerLink], list[str]]:
        """The gateways that are connected beside this one, and the URLs of those dialed that are not."""
        links = self._open_links()
        known = {link.peer_id, *(other.peer_id for other in links)}
        missing = [
            dialed.url
            for dialed in self._dialed
            if (dialed.peer_id if dialed.link is None else dialed.link.peer_id) not in known
        ]
        return [other for other in links if other is not link], missing

    def states(self) -> list[PeerState]:
        """How each gateway that is dialed, or has dialed, stands."""
        found = {
            peer_id: PeerState(None, peer_id, connected=True, unsent=link.unsent, last_error=None)
            for peer_id, link in self._links.items()
            if link.open
        }
        states = []
        for dialed in self._dialed:
            peer_id = dialed.peer_id if dialed.link is None else dialed.link.peer_id
            known = found.pop(peer_id, None)
            if known is not None:
                states.append(msgspec.structs.replace(known, url=dialed.url))
            else:
                error = dialed.last_error
                states.append(PeerState(dialed.url, peer_id or None, False, None, error))  # noqa: FBT003 - see there
        return [*states, *found.values()]

    def _lower_dialed(self, link: PeerLink) -> bool:
        return link.dialed == (self.gateway_id < link.peer_id)

    def _expected_token(self) -> str | None:
        return self._token or self._policy().token

    def _session(self) -> PeerSession:
        return PeerSession(
            gateway_id=self.gateway_id,
            nonce=secrets.token_hex(32),
            sign=self._key.sign,
            verify=is_signed,
            now=asyncio.get_running_loop().time(),
        )

    async def _serve(self, link: PeerLink) -> str:
        self._serving.add(link)
        self.boards.listeners.append(link.board_changed)
        try:
            return await link.run()
        finally:
            self._serving.discard(link)
            self.boards.listeners.remove(link.board_changed)
            if self._links.get(link.peer_id) is link:
                del self._links[link.peer_id]
            link.ended.set()

    async def _say_presence(self) -> None:
        while True:
            await asyncio.sleep(_PRESENCE_EVERY)
            if not self._links:
                continue
            now = asyncio.get_running_loop().time()
            said = self.presence.due(self._present(), self._now_ms(), now)
            if said is not None:
                for link in self._serving:
                    link.say_presence(said)

    def _open_links(self) -> list[PeerLink]:
        return [link for link in self._links.values() if link.open]

    def _rescan(self) -> None:
        for link in self._serving:
            link.rescan()

    def _own_presence(self, present: list[wire.Present]) -> wire.Presence:
        return wire.Presence(gateway_id=self.gateway_id, version=self._now_ms(), present=present)

    # --- dialing -----------------------------------------------------------------------------------

    async def _keep(self, dialed: Dialed) -> None:
        """Stay connected with one gateway, for ever."""
        backoff = Backoff()
        failures = 0
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted(dialed.url, self._tls_ca)),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as client:
            while not self._stopping:
                reason, accepted = await self._attempt(client, dialed)
                if accepted:
                    backoff.succeeded()
                    failures = 0
                failures += 1
                if reason != dialed.last_error or failures & (failures - 1) == 0:
                    _log.warning("not connected to the gateway at %s: %s", dialed.url, reason)
                dialed.last_error = reason
                await asyncio.sleep(backoff.next_delay(secrets.randbelow(1 << 20) / (1 << 20)))
                while (other := self._links.get(dialed.peer_id)) is not None:
                    # It dialed us, and that connection is as good.
                    await other.ended.wait()

    async def _attempt(self, client: aiohttp.ClientSession, dialed: Dialed) -> tuple[str, bool]:
        try:
            async with asyncio.timeout(limits.GREETING_LIMIT):
                socket = await self._dial(client, dialed.url)
        except TimeoutError:
            return f"it did not answer within {limits.GREETING_LIMIT:.0f} s", False
        except aiohttp.WSServerHandshakeError as error:
            return f"it refuses the connection (HTTP {error.status}); is the peer token right?", False
        except aiohttp.ClientConnectorCertificateError as error:
            return f"its certificate is not trusted: {clean(str(error.certificate_error))}", False
        except aiohttp.ClientConnectorError as error:
            return f"it cannot be reached: {clean(str(error.os_error))}", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"its answer cannot be used ({type(error).__name__})", False
        link = dialed.link = PeerLink(self, socket, self._session(), dialed=True)
        try:
            reason = await self._serve(link)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever another gateway sends, the next attempt may succeed
            _log.exception("a connection with a gateway failed unexpectedly")
            reason = "an unexpected error, see the log"
        finally:
            dialed.link = None
            dialed.peer_id = link.peer_id or dialed.peer_id
        return reason, link.was_open

    async def _dial(self, client: aiohttp.ClientSession, url: str) -> Socket:
        token = self._expected_token()
        return await client.ws_connect(
            websocket_url(url, wire.PEERS_PATH),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            protocols=(wire.SUBPROTOCOL,),
            autoping=False,
            max_msg_size=limits.PEER_FRAME_BYTES_MAX,
            timeout=aiohttp.ClientWSTimeout(ws_close=limits.CLOSE_LIMIT),
        )


def _is_same(token: str | None, expected: str) -> bool:
    # A header may hold any bytes; those that are no UTF-8 come as surrogates.
    shown = (token or "").encode(errors="surrogateescape")
    return hmac.compare_digest(shown, expected.encode())
