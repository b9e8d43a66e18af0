"""A world in one process, under one seed: sleds and a gateway around the real state machines.

Stores are lists in memory that survive a crash exactly as far as they were committed. Everything else
(sockets, commits, crashes, time) happens when the schedule says so.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from huskies.events import codec
from huskies.events.model import RelayedEvent, StoredStoryBlocked
from huskies.protocol import wire
from huskies.protocol.contiguity import Gap, judge
from huskies.protocol.effects import (
    Accepted,
    Acked,
    Admit,
    Append,
    ApplySnapshot,
    AskOthers,
    End,
    GatewayEffect,
    OpenEpoch,
    Ping,
    Send,
    SetBarrier,
    SledEffect,
    TakeSnapshot,
)
from huskies.protocol.gateway import GatewaySession
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.sled import SledSession

Origin: TypeAlias = tuple[str, str]
GATEWAY_ID = "ab" * 32
PROJECT = "web-shop"


def event(value: str) -> bytes:
    return codec.encode(StoredStoryBlocked(story_id="1_story_x", reason=value, timestamp_ms=1))


def value_of(stored: RelayedEvent) -> str:
    assert isinstance(stored, StoredStoryBlocked)
    return stored.reason


def fake_sign(sled_id: str, text: bytes) -> bytes:
    return hashlib.sha512(sled_id.encode() + text).digest()


def fake_verify(sled_id: str, signature: bytes, text: bytes) -> bool:
    return signature == fake_sign(sled_id, text)


@dataclass
class Outbox:
    """What a sled has committed. `held` maps seq to the event's JSON."""

    sled_id: str
    epoch: str
    held: dict[int, bytes] = field(default_factory=dict)
    last_seq: int = 0
    acked: int = 0
    barrier: int | None = None
    set_aside: bool = False
    previous: list[wire.PreviousEpoch] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)

    def copy(self) -> Outbox:
        return Outbox(
            self.sled_id, self.epoch, dict(self.held), self.last_seq, self.acked, self.barrier,
            self.set_aside, list(self.previous), list(self.rejected),
        )  # fmt: skip

    def view(self) -> OutboxView:
        return OutboxView(
            project=PROJECT,
            sled_id=self.sled_id,
            epoch=self.epoch,
            last_seq=self.last_seq,
            acked=self.acked,
            oldest=min(self.held, default=self.last_seq + 1),
            barrier=self.barrier,
            barrier_set_aside=self.set_aside,
            previous=tuple(self.previous),
        )

    def record(self, data: bytes) -> None:
        self.last_seq += 1
        self.held[self.last_seq] = data

    def open_epoch(self, epoch: str, carry_from: int) -> None:
        if self.set_aside and self.barrier is not None and self.barrier in self.held:
            self.rejected.append(self.held[self.barrier])
        self.previous.append(wire.PreviousEpoch(epoch=self.epoch, last_seq=carry_from - 1))
        carried = [self.held[seq] for seq in sorted(self.held) if seq >= carry_from]
        self.epoch = epoch
        self.held = dict(enumerate(carried, 1))
        self.last_seq = len(carried)
        self.acked = 0
        self.barrier = None
        self.set_aside = False

    def prune(self, keep: int) -> None:
        for seq in [s for s in self.held if s <= self.acked - keep]:
            del self.held[seq]


@dataclass
class Link:
    """One connection: frames on their way, and both sides' sessions."""

    sled: Sled
    sled_core: SledSession
    gateway_core: GatewaySession
    up: deque[bytes] = field(default_factory=deque)
    down: deque[bytes] = field(default_factory=deque)
    sled_open: bool = True
    gateway_open: bool = True
    origin: Origin | None = None
    refused: bool = False


@dataclass
class Sled:
    name: str
    outbox: Outbox
    link: Link | None = None
    backup: Outbox | None = None


@dataclass
class Job:
    link: Link
    first_seq: int
    events: list[RelayedEvent]
    hello: wire.Hello | None = None


class World:
    """Runs one schedule. `log` holds what each origin committed; `recorded` every value that was recorded."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a schedule must be repeatable
        self.now = 0.0
        self.log: dict[Origin, list[str]] = {}
        self.closed: dict[Origin, int] = {}
        self.log_backup: dict[Origin, list[str]] | None = None
        self.quarantined: list[str] = []
        self.jobs: deque[Job] = deque()
        self.links: list[Link] = []
        self.by_sled: dict[str, Link] = {}
        self.recorded: list[str] = []
        self.acked_ok: set[tuple[str, str]] = set()
        self.frames = 0
        self.history: list[str] = []
        self.sleds: list[Sled] = []
        self._names = 0

    # --- things that happen ------------------------------------------------------------------------

    def add_sled(self) -> Sled:
        self._names += 1
        sled = Sled(f"s{self._names}", Outbox(f"{self._names:02d}" * 32, self._hex()))
        self.sleds.append(sled)
        return sled

    def record(self, sled: Sled, *, poisoned: bool = False) -> None:
        value = f"{sled.name}-{len(self.recorded)}"
        if poisoned:
            sled.outbox.record(
                b'{"type":"story_blocked","story_id":"x","reason":7,"value":"%b"}' % value.encode()
            )
        else:
            self.recorded.append(value)
            sled.outbox.record(event(value))
        if sled.link is not None:
            sled.link.sled_core.recorded(sled.outbox.last_seq)

    def connect(self, sled: Sled) -> None:
        if sled.link is not None:
            self.cut(sled.link)
        key = sled.outbox.sled_id
        gateway_core = GatewaySession(
            project=PROJECT,
            gateway_id=GATEWAY_ID,
            nonce=self._hex(),
            verify=fake_verify,
            sign=lambda text: fake_sign(GATEWAY_ID, text),
            now=self.now,
        )
        sled_core = SledSession(sled.outbox.view(), lambda text: fake_sign(key, text), self.now)
        link = Link(sled, sled_core, gateway_core)
        sled.link = link
        self.links.append(link)
        self._gateway_does(link, gateway_core.start())

    def cut(self, link: Link) -> None:
        """The connection breaks; what was on its way is lost, and either side learns of it now or later."""
        link.up.clear()
        link.down.clear()
        link.sled_open = link.gateway_open = False
        if link.sled.link is link:
            link.sled.link = None
        if link.origin is not None and self.by_sled.get(link.origin[0]) is link:
            del self.by_sled[link.origin[0]]
        if link in self.links:
            self.links.remove(link)

    def half_open(self, link: Link) -> None:
        """The sled's side breaks and the gateway does not notice: its session lives on."""
        link.sled_open = False
        link.down.clear()
        if link.sled.link is link:
            link.sled.link = None

    def crash_gateway(self) -> None:
        self.jobs.clear()
        self.by_sled.clear()
        for link in list(self.links):
            self.cut(link)

    def commit(self, count: int) -> None:
        """The gateway's writer carries out jobs."""
        for _ in range(min(count, len(self.jobs))):
            job = self.jobs.popleft()
            if job.hello is not None:
                self._admit(job.link, job.hello)
            else:
                self._append(job)

    def deliver_up(self, link: Link) -> None:
        if link.up and link.gateway_open:
            self.frames += 1
            self._gateway_does(link, link.gateway_core.receive(link.up.popleft(), self.now))

    def deliver_down(self, link: Link) -> None:
        if link.down and link.sled_open:
            self.frames += 1
            self._sled_does(link, link.sled_core.receive(link.down.popleft(), self.now))

    def pump(self, link: Link, chunk: int) -> None:
        """The sled reads its outbox and sends, `chunk` events at the most."""
        want = link.sled_core.wants()
        if want is None or not link.sled_open:
            return
        outbox = link.sled.outbox
        events = []
        for seq in range(want.first_seq, want.first_seq + min(want.count, chunk)):
            if seq not in outbox.held:
                break
            events.append(outbox.held[seq])
        self._sled_does(link, link.sled_core.fetched(want.first_seq, events, self.now))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for link in list(self.links):
            if link.sled_open:
                self._sled_does(link, link.sled_core.tick(self.now))
            if link.gateway_open:
                self._gateway_does(link, link.gateway_core.tick(self.now))

    # --- the shells --------------------------------------------------------------------------------

    def _sled_does(self, link: Link, effects: list[SledEffect]) -> None:  # noqa: C901 - a case an effect
        outbox = link.sled.outbox
        for effect in effects:
            match effect:
                case Send():
                    link.up.append(effect.data)
                case Acked():
                    self._check_ack(outbox, effect.seq)
                    outbox.acked = max(outbox.acked, effect.seq)
                case SetBarrier():
                    if outbox.barrier is None or effect.set_aside:
                        outbox.barrier, outbox.set_aside = effect.seq, effect.set_aside
                case OpenEpoch():
                    outbox.open_epoch(self._hex(), effect.carry_from)
                case TakeSnapshot():
                    self._sled_does(link, link.sled_core.snapshot_taken(outbox.last_seq, []))
                case End():
                    self.cut(link)
                case Ping():
                    link.gateway_core.heard(self.now)
                case Accepted():
                    pass

    def _gateway_does(self, link: Link, effects: list[GatewayEffect]) -> None:  # noqa: C901 - one an effect
        for effect in effects:
            match effect:
                case Send():
                    link.down.append(effect.data)
                case Admit():
                    older = self.by_sled.get(effect.hello.sled_id)
                    self.by_sled[effect.hello.sled_id] = link
                    if older is not None and older is not link:
                        self._gateway_does(older, older.gateway_core.superseded())
                    self.jobs.append(Job(link, 0, [], effect.hello))
                case AskOthers():
                    assert link.origin is not None
                    self._gateway_does(link, link.gateway_core.told(len(self.log[link.origin]), None))
                case Append():
                    self.jobs.append(Job(link, effect.first_seq, effect.events))
                case End():
                    link.gateway_open = False
                case Ping():
                    if link.sled_open:
                        link.sled_core.heard(self.now)
                        link.gateway_core.heard(self.now)
                case ApplySnapshot():
                    assert link.origin is not None
                    assert effect.snapshot.seq <= len(self.log[link.origin])

    def _admit(self, link: Link, hello: wire.Hello) -> None:
        link.origin = (hello.sled_id, hello.epoch)
        self.log.setdefault(link.origin, [])
        for older in hello.previous:
            self.closed[hello.sled_id, older.epoch] = older.last_seq
        self._gateway_does(link, link.gateway_core.admitted(len(self.log[link.origin])))

    def _append(self, job: Job) -> None:
        link = job.link
        assert link.origin is not None
        held = self.log[link.origin]
        values = [value_of(stored) for stored in job.events]
        verdict = judge(len(held), job.first_seq, len(values))
        core = link.gateway_core
        if link.refused:
            self._gateway_does(link, core.gap(len(held) + 1, 1))
            return
        if isinstance(verdict, Gap):
            link.refused = True
            self._gateway_does(link, core.gap(verdict.expected, 1))
            return
        for offset in range(verdict.held):
            if held[job.first_seq - 1 + offset] != values[offset]:
                self.quarantined.extend(values[offset:])
                link.refused = True
                self._gateway_does(link, core.conflict(job.first_seq + offset, 1))
                return
        held.extend(values[verdict.held :])
        self._gateway_does(link, core.committed(job.first_seq + len(values) - 1, 1))

    def _check_ack(self, outbox: Outbox, seq: int) -> None:
        """What a sled takes for acknowledged is in the log, with the content that the sled holds."""
        held = self.log.get((outbox.sled_id, outbox.epoch), [])
        assert seq <= len(held), f"acknowledged {seq}, the log holds {len(held)}"
        for number in range(outbox.acked + 1, seq + 1):
            if number in outbox.held:
                assert event(held[number - 1]) == outbox.held[number], f"another content under seq {number}"

    def _hex(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    # --- the end -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """No more faults: everything is delivered in order until nothing is left to do."""
        for _ in range(400):
            for sled in self.sleds:
                if sled.link is None or not (sled.link.gateway_open or sled.link.down):
                    self.connect(sled)
                link = sled.link
                assert link is not None
                self.pump(link, 1_000)
                while link.up and link.gateway_open:
                    self.deliver_up(link)
                self.commit(len(self.jobs))
                while link.down and sled.link is link:
                    self.deliver_down(link)
            self.tick(5.0)
            if all(self._idle(sled) for sled in self.sleds):
                return
        raise AssertionError("the world does not come to rest")

    @staticmethod
    def _idle(sled: Sled) -> bool:
        outbox, link = sled.outbox, sled.link
        return (
            link is not None
            and link.sled_core.accepted
            and outbox.barrier is None
            and outbox.acked == outbox.last_seq
            and not link.up
            and link.sled_core.in_flight == 0
            and link.sled_core.wants() is None
        )

    def stored(self) -> list[str]:
        return [value for values in self.log.values() for value in values]
