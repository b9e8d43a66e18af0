"""The spool: how `huskies emit` hands over an event, whether or not a sled is running.

Like a maildir: an entry is written and fsynced in `tmp/`, then renamed into `new/`, so that whoever finds
it there finds all of it. An entry is the event's stored form, and the place of the project that it was
emitted in; its name sorts by when that was.

`huskies emit` imports this, so it imports nothing heavy.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Final

import msgspec

from huskies import limits
from huskies.errors import InvalidEventError, StoreError
from huskies.events.model import StatusEvent
from huskies.sled.intake import entry_of
from huskies.sled.layout import Layout, ensure_state
from huskies.storage.files import create_private_file, sync_directory

_NS_PER_MS: Final = 1_000_000
_counter = itertools.count()


def write(layout: Layout, event: StatusEvent) -> str:
    """Hand an event to the project's sled; returns the entry's name once it is durable.

    Raises `InvalidEventError` for an event without the shape of SPEC 2, `ConfigError` where the project has
    no usable state directory, `StoreError` where the entry cannot be written.
    """
    emitted_ns = time.time_ns()
    entry = entry_of(event, emitted_ns // _NS_PER_MS)
    if len(entry.json) > limits.EVENT_BODY_BYTES_MAX:
        raise InvalidEventError(
            f"the event has {len(entry.json)} bytes; expected at most {limits.EVENT_BODY_BYTES_MAX}"
        )
    ensure_state(layout)
    # The random end tells apart processes of two containers that share the directory but not their pids.
    name = f"{emitted_ns:020d}-{os.getpid():010d}-{next(_counter):06d}-{os.urandom(4).hex()}.json"
    draft = layout.spool_tmp / name
    try:
        create_private_file(draft, _with_place(entry.json, layout))
        draft.rename(layout.spool_new / name)
        sync_directory(layout.spool_new)
    except OSError as error:
        raise StoreError(f"{layout.spool}: the event cannot be written: {error.strerror}") from None
    return name


def emitted_ns(name: str) -> int:
    """When the entry of this name was emitted (Unix ns); 0 where its name does not say."""
    digits = name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0


def remove_those_of(layout: Layout, place: str) -> int:
    """Remove the entries that were emitted at `place`, of which this project is a copy; says how many."""
    removed = 0
    for path in layout.spool_new.glob("*.json"):
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Place).place
        except (OSError, msgspec.DecodeError, UnicodeError):
            continue
        if found == place:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


class _Place(msgspec.Struct):
    place: str = ""


def _with_place(json: bytes, layout: Layout) -> bytes:
    # A copy of the project takes the spool along; whose event it is must be told afterwards.
    return json[:-1] + b',"place":' + msgspec.json.encode(str(layout.project_dir)) + b"}"
