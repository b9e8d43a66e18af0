"""Whether a gateway that starts is still the one that its directory belongs to.

Other gateways and sleds know a gateway by its key. A directory that was copied while the original is still
there gets a key of its own, so that two gateways are never taken for one; one that was moved keeps its key.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies.gateway import keys
from huskies.gateway.store import log_store
from huskies.gateway.store.log import Log

_log = logging.getLogger("huskies.gateway")


async def settled_key(log: Log, directory: Path) -> Ed25519PrivateKey:
    """The gateway's key; a new one for a copy. Notes in the log where it lies. Raises `ConfigError`."""
    recorded = await log.call(lambda db: log_store.read_meta(db, "place"))
    place, key = _settle(None if recorded is None else Path(str(recorded)), directory)
    if recorded != place:
        await log.call(lambda db: log_store.write_meta(db, "place", place))
    return key


def _settle(recorded: Path | None, directory: Path) -> tuple[str, Ed25519PrivateKey]:
    if recorded is not None and is_copy(recorded, directory):
        _log.warning("This is a copy of the gateway in %s; it gets a key of its own.", recorded)
        keys.make_key(directory)
    return str(directory.resolve()), keys.gateway_key(directory)


def is_copy(original: Path, directory: Path) -> bool:
    """Whether the gateway of another directory has the same key: both are there, so this one is the copy."""
    try:
        if original.samefile(directory):
            return False
        return (original / keys.FILE_NAME).read_bytes() == (directory / keys.FILE_NAME).read_bytes()
    except OSError:
        return False
