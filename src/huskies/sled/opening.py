"""Opening a project's outbox at start: whose it is, and under which key and epoch it goes on (`identity`)."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from huskies.errors import ConfigError
from huskies.sled import spool
from huskies.sled.identity import Identity, Step, decide
from huskies.sled.keys import Keyring
from huskies.sled.layout import Layout
from huskies.sled.outbox_schema import Head, read_head
from huskies.sled.outbox_store import OutboxStore
from huskies.storage.sqlite import open_reader

_log = logging.getLogger("huskies.sled")

_WHEN: Final = {
    Step.LEAVE_BEHIND: "and leaves to the original what waits for an ack",
    Step.CARRY_OVER: "which take over what waits for an ack",
    Step.DRAIN_FIRST: "once what was recorded until now is delivered",
}


def open_store(
    layout: Layout, project: str, keyring: Keyring, new_epoch: Callable[[], str]
) -> tuple[OutboxStore, Identity]:
    """The project's outbox and the identity that its next epoch takes.

    Raises `ConfigError` where something in the state directory cannot be used, `StoreError` where it cannot
    be written.
    """
    found = Identity(project, str(layout.project_dir))
    store = OutboxStore(layout.outbox)
    try:
        with store.transaction():
            identity = _settle(store, found, layout, keyring, new_epoch)
    except BaseException:
        store.close()
        raise
    with contextlib.suppress(OSError):
        keyring.keep_only(store.head.sled_id)
    return store, identity


def recorded_name(project_dir: Path) -> str | None:
    """The name under which a sled last ran for this directory; None where none did."""
    layout = Layout(project_dir)
    try:
        with contextlib.closing(open_reader(layout.outbox)) as reader:
            head = read_head(reader)
    except sqlite3.Error:
        return None
    return head.project if head is not None and head.place == str(layout.project_dir) else None


def _settle(
    store: OutboxStore, found: Identity, layout: Layout, keyring: Keyring, new_epoch: Callable[[], str]
) -> Identity:
    if store.is_new:
        sled_id = keyring.find(found.project, found.place) or keyring.create(found.project, found.place)
        store.create(found, sled_id, new_epoch())
        return found
    head = store.head
    recorded = Identity(head.project, head.place)
    step = _next_step(head, recorded, found, layout)
    if not _key_is_usable(keyring, head.sled_id):
        # Without its key nothing can be said under the old identity any more.
        _log.warning("The sled's key is lost; it gets a new one.", extra={"project": found.project})
        step = Step.CARRY_OVER
    if step is Step.KEEP:
        return recorded
    _log.warning(
        "This project was %s at %s; it gets a new key and epoch %s.",
        recorded.project,
        recorded.place,
        _WHEN[step],
        extra={"project": found.project},
    )
    if step is Step.DRAIN_FIRST:
        if head.barrier is None:
            store.set_barrier(head.last_seq + 1, "the project was moved or renamed", set_aside=False)
        return found
    if step is Step.LEAVE_BEHIND and (left := spool.remove_those_of(layout, recorded.place)):
        _log.info("%d emitted events are left to the original.", left, extra={"project": found.project})
    carry_from = head.last_seq + 1 if step is Step.LEAVE_BEHIND else head.acked + 1
    store.open_epoch(carry_from, new_epoch(), found, keyring.create(found.project, found.place))
    return found


def _next_step(head: Head, recorded: Identity, found: Identity, layout: Layout) -> Step:
    original = Path(recorded.place)
    return decide(
        recorded,
        found,
        same_directory=_is_same_directory(original, layout.project_dir),
        original_exists=_holds_key(original, head.sled_id),
        unacked=head.unacked,
        exposed=head.exposed,
    )


def _is_same_directory(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _holds_key(project_dir: Path, sled_id: str) -> bool:
    try:
        return Keyring(Layout(project_dir).keys).holds(sled_id)
    except OSError:
        return False


def _key_is_usable(keyring: Keyring, sled_id: str) -> bool:
    try:
        keyring.load(sled_id)
    except ConfigError:
        return False
    return True
