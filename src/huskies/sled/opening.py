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
    Step.BEGIN_ANEW: "now",
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
        keyring.keep_only(store.head.sled_id, store.head.next_sled_id)
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
    same_directory = _is_same_directory(Path(recorded.place), layout.project_dir)
    step = decide(recorded, found, same_directory=same_directory, unacked=head.unacked)
    if not _key_is_usable(keyring, head.sled_id):
        # Without its key nothing can be said under the old identity any more.
        _log.warning("The sled's key is lost; it gets a new one.", extra={"project": found.project})
        store.open_epoch(head.acked + 1, new_epoch(), found, keyring.create(found.project, found.place))
        return found
    if step is Step.KEEP:
        if head.next_sled_id:  # renamed back before the new name was taken
            store.foresee("", new_epoch(), head.inherited)
        return recorded
    _log.warning(
        "This project was %s at %s; it gets a new key and epoch %s.",
        recorded.project,
        recorded.place,
        _WHEN[step],
        extra={"project": found.project},
    )
    inherited = _inherit(layout, head, same_directory=same_directory)
    sled_id = keyring.find(found.project, found.place) or keyring.create(found.project, found.place)
    if sled_id != head.next_sled_id:
        store.foresee(sled_id, new_epoch(), inherited)
    if step is Step.BEGIN_ANEW:
        store.open_epoch(head.last_seq + 1, store.head.next_epoch, found, sled_id)
    elif head.barrier is None:
        reason = "the project was moved, copied or renamed"
        store.set_barrier(head.last_seq + 1, store.head.next_epoch, reason, set_aside=False)
    return found


def _inherit(layout: Layout, head: Head, *, same_directory: bool) -> int:
    """Through which seq the outbox of a copy holds what is the original's to tell; 0 for no copy."""
    if same_directory or not _holds_key(Path(head.place), head.sled_id):
        return 0
    if left := spool.remove_those_of(layout, head.place):
        _log.info("%d emitted events are left to the original.", left, extra={"project": head.project})
    return head.last_seq


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
