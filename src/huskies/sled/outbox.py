"""The outbox: what a sled has recorded, durable until a gateway has acknowledged it.

All writes go through one thread, many to a commit (`storage.commits`); reads are short and happen in the
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from huskies import limits
from huskies.errors import StoreError
from huskies.events.model import StatusEvent
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.wire import SnapshotStory
from huskies.sled import outbox_schema as schema
from huskies.sled.broadcast import Receipt
from huskies.sled.identity import Identity
from huskies.sled.intake import Entry, entry_of
from huskies.sled.keys import Keyring
from huskies.sled.outbox_store import Keeping, OutboxStore
from huskies.sled.scan import Changes
from huskies.storage.commits import Commits, CommitThread, StartCommits
from huskies.storage.sqlite import open_reader

_T = TypeVar("_T")

# A commit's weight is its number of events.
_COMMIT_WEIGHT_MAX: Final = 10_000
# How much one poll may bring into memory.
_POLL_BYTES_MAX: Final = 8 << 20
_KEEPING: Final = Keeping()


def _do_nothing() -> None:
    pass


def draw_epoch() -> str:
    """A new epoch: 32 random hex digits."""
    return secrets.token_hex(16)


class _Job(msgspec.Struct):
    """A durable step; `entries` are announced once it is committed, `done` then gets its result."""

    run: Callable[[OutboxStore], Any]
    done: asyncio.Future[Any]
    entries: Sequence[Entry] = ()
    snapshot_changes: bool = False


class Outbox:
    """Records events and what was seen of the pipeline, in order and together.

    `identity` is what the project is called and where it lies now, `keep` what is not forgotten although it
    is acknowledged. `announce` gets each recorded event, in
    commit order; `failed` is called once if the store fails, after which nothing is recorded any more and
    every call raises `StoreError`.
    """

    def __init__(
        self,
        store: OutboxStore,
        *,
        identity: Identity,
        keyring: Keyring,
        relay_rate_limits: bool,
        keep: Keeping = _KEEPING,
        now_ms: Callable[[], int],
        announce: Callable[[StatusEvent], None],
        failed: Callable[[StoreError], None],
        new_epoch: Callable[[], str] = draw_epoch,
        commits: StartCommits = CommitThread,
    ) -> None:
        self._store = store
        self._identity = identity
        self._keyring = keyring
        self._relay_rate_limits = relay_rate_limits
        self._keep = keep
        self._now_ms = now_ms
        self._announce = announce
        self._on_failure = failed
        self._new_epoch = new_epoch
        self._failure: StoreError | None = None
        self._closed = False
        self._pending: set[asyncio.Future[Any]] = set()
        self._reader = open_reader(store.path)
        self.head = store.head
        self.set_aside_count = self._read(
            lambda reader: int(reader.execute("SELECT count(*) FROM set_aside").fetchone()[0])
        )
        self._v2_gateways = self._read(
            lambda reader: {url for (url,) in reader.execute("SELECT url FROM v2_gateways")}
        )
        self._on_commit: Callable[[], None] = _do_nothing
        self._on_snapshot_change: Callable[[], None] = _do_nothing
        self._thread: Commits[_Job] = commits(
            name="huskies-outbox",
            commit=self._commit,
            deliver=self._deliver,
            failed=self._fail,
            cost=lambda job: max(1, len(job.entries)),
            max_cost=_COMMIT_WEIGHT_MAX,
        )

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._store.path

    @property
    def identity_pending(self) -> bool:
        """Whether the project was moved or renamed and its next epoch gets a new key."""
        return self._recorded_identity() != self._identity

    @property
    def is_renamed(self) -> bool:
        """Whether what is held is still being delivered under an older name."""
        return self.head.project != self._identity.project

    async def stop(self) -> None:
        """Commit what was submitted and close."""
        self._closed = True
        await self._thread.stop()
        self._give_up(StoreError(f"{self.path}: the outbox is closed"))
        self._reader.close()
        self._store.close()

    # --- recording ---------------------------------------------------------------------------------

    async def publish(self, event: StatusEvent) -> Receipt:
        """Record an event that another program published.

        Raises `InvalidEventError`, or `StoreError` where it cannot be made durable.
        """
        return (await self.record_published([entry_of(event, self._now_ms())]))[0]

    async def record_published(
        self, entries: Sequence[Entry], *, spool_ids: Sequence[str] = (), forget_spool_ids: Sequence[str] = ()
    ) -> list[Receipt]:
        """Record checked entries, and in the same transaction which spool entries they were."""
        relayed = self._relayed(entries)

        def run(store: OutboxStore) -> list[Receipt]:
            store.forget_drained(forget_spool_ids)
            store.add_drained(spool_ids)
            for entry in relayed:
                store.save_published(entry)
            return self._append(store, entries, relayed)

        return await self._submit(run, entries)

    async def record_changes(self, changes: Changes) -> list[Receipt]:
        """Record what was seen of the pipeline together with the events that tell of it."""
        now_ms = self._now_ms()
        entries = [entry_of(event, now_ms) for event in changes.events]

        def run(store: OutboxStore) -> list[Receipt]:
            store.save_changes(changes, now_ms)
            return self._append(store, entries, entries)

        return await self._submit(run, entries, snapshot_changes=changes.unsaid or bool(changes.gone))

    async def forget_spooled(self, spool_ids: Sequence[str]) -> None:
        """The files of these spool entries are gone, durably."""
        await self._submit(lambda store: store.forget_drained(spool_ids))

    # --- what the relay asks -----------------------------------------------------------------------

    @contextlib.contextmanager
    def listening(
        self, on_commit: Callable[[], None], on_snapshot_change: Callable[[], None] = _do_nothing
    ) -> Iterator[None]:
        """Meanwhile, tell of each commit, and of those that change the snapshot in a way no event says."""
        self._on_commit, self._on_snapshot_change = on_commit, on_snapshot_change
        try:
            yield
        finally:
            self._on_commit = self._on_snapshot_change = _do_nothing

    def view(self) -> OutboxView:
        """What is held when a session begins."""
        return self._read(lambda reader: schema.read_view(reader, self.head, self._keep.copies))

    def read(self, first_seq: int, count: int) -> list[tuple[bytes, bool]]:
        """Events from `first_seq` on as (json, whether v1 knows the kind): at least one, at most a frame.

        What is committed is read, also where `head` does not tell of it yet: a snapshot may have. Raises
        `StoreError` where the first of them is not there.
        """
        position = self.head.base + first_seq
        events = self._read(
            lambda reader: schema.read_events(reader, position, count, limits.BATCH_BYTES_MAX)
        )
        if not events:
            problem = StoreError(f"{self.path}: event {first_seq} is missing from the outbox")
            self._fail(problem)
            raise problem
        return events

    def snapshot(self) -> tuple[int, list[SnapshotStory]]:
        """The newest seq and where the stories stand as of it."""
        return self._read(schema.read_snapshot)

    def sign(self, text: bytes) -> bytes:
        """The Ed25519 signature by the current key; raises `ConfigError` where the key is gone."""
        return self._keyring.load(self.head.sled_id).sign(text)

    def acknowledge(self, seq: int) -> None:
        """The gateway holds everything up to `seq`. Not waited for: a lost ack is asked for again."""
        self._start(lambda store: store.acknowledge(seq))

    def hold(self, seq: int) -> None:
        """As many gateways as are wanted hold everything up to `seq`. Not waited for: it is told again."""
        self._start(lambda store: store.hold(seq, self._keep.copies))

    async def set_barrier(self, seq: int, reason: str, *, set_aside: bool) -> None:
        """Nothing from `seq` on may be sent in this epoch."""
        next_epoch = self._new_epoch()
        await self._submit(lambda store: store.set_barrier(seq, next_epoch, reason, set_aside=set_aside))

    async def open_epoch(self, carry_from: int) -> None:
        """Begin an epoch that carries over what is held from `carry_from` on.

        A project that was moved or renamed takes its new key and name with it.
        """
        before = self.head
        sled_id = before.next_sled_id if self.identity_pending else before.sled_id
        epoch = before.next_epoch or self._new_epoch()

        self.set_aside_count += await self._submit(
            lambda store: store.open_epoch(carry_from, epoch, self._identity, sled_id)
        )
        if sled_id != before.sled_id:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._keyring.keep_only, sled_id)

    async def mark_sent_v1(self, seq: int) -> None:
        """Everything up to `seq` is about to be sent on v1, once."""
        await self._submit(lambda store: store.mark_sent_v1(seq))

    def has_spoken_v2(self, gateway_url: str) -> bool:
        """Whether the gateway at this URL has ever spoken v2."""
        return gateway_url in self._v2_gateways

    async def remember_v2(self, gateway_url: str) -> None:
        """The gateway at this URL speaks v2."""
        if gateway_url not in self._v2_gateways:
            await self._submit(lambda store: store.remember_v2(gateway_url))
            self._v2_gateways.add(gateway_url)

    async def events_since(self, since_ms: int) -> list[bytes]:
        """Recent stored events as JSON, recorded at `since_ms` or later, oldest first; bounded."""

        def read() -> list[bytes]:
            # Its own connection and thread: a poll may bring megabytes.
            with contextlib.closing(open_reader(self.path)) as reader:
                return schema.read_since(reader, since_ms, limits.RECENT_POLL_EVENTS_MAX, _POLL_BYTES_MAX)

        try:
            return await asyncio.to_thread(read)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: the outbox cannot be read: {error}") from None

    # --- in the event loop -------------------------------------------------------------------------

    def _recorded_identity(self) -> Identity:
        return Identity(self.head.project, self.head.place)

    def _relayed(self, entries: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.stored or self._relay_rate_limits]

    @staticmethod
    def _append(store: OutboxStore, entries: Sequence[Entry], relayed: Sequence[Entry]) -> list[Receipt]:
        seq = store.append(relayed)
        head = store.head
        receipts = []
        keep = {id(entry) for entry in relayed}
        for entry in entries:
            held = id(entry) in keep
            sled_id, epoch, delivered_seq = head.identity_of(seq)
            receipts.append(Receipt(sled_id=sled_id, epoch=epoch, seq=delivered_seq if held else None))
            seq += held
        return receipts

    def _start(
        self,
        run: Callable[[OutboxStore], _T],
        entries: Sequence[Entry] = (),
        *,
        snapshot_changes: bool = False,
    ) -> asyncio.Future[_T]:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise StoreError(f"{self.path}: the outbox is closed")
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._pending.add(done)
        self._thread.submit(_Job(run, done, entries, snapshot_changes))
        return done

    async def _submit(
        self,
        run: Callable[[OutboxStore], _T],
        entries: Sequence[Entry] = (),
        *,
        snapshot_changes: bool = False,
    ) -> _T:
        # Whoever gives up waiting does not undo what was submitted.
        return await asyncio.shield(self._start(run, entries, snapshot_changes=snapshot_changes))

    def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return read(self._reader)
        except sqlite3.Error as error:
            problem = StoreError(f"{self._store.path}: the outbox cannot be read: {error}")
            self._fail(problem)
            raise problem from None

    def _deliver(self, jobs: Sequence[_Job], results: Sequence[tuple[schema.Head, Any]]) -> None:
        self.head = results[-1][0]
        for job, (_, result) in zip(jobs, results, strict=True):
            self._pending.discard(job.done)
            if not job.done.done():
                job.done.set_result(result)
            for entry in job.entries:
                self._announce(entry.event)
        self._on_commit()
        if any(job.snapshot_changes for job in jobs):
            self._on_snapshot_change()

    def _fail(self, error: StoreError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        self._give_up(error)
        self._on_failure(error)

    def _give_up(self, error: StoreError) -> None:
        for done in self._pending:
            if not done.done():
                done.set_exception(error)
                # Not every step is waited for; `failed` reports it.
                done.exception()
        self._pending.clear()

    # --- in the outbox's thread --------------------------------------------------------------------

    def _commit(self, jobs: Sequence[_Job]) -> list[tuple[schema.Head, Any]]:
        copies = self._keep.copies
        before = self._store.forgettable(copies)
        with self._store.transaction():
            results = [job.run(self._store) for job in jobs]
            more = self._store.forgettable(copies) - before
            if more > 0:
                self._store.prune(self._now_ms(), self._keep, more)
        return [(self._store.head, result) for result in results]
