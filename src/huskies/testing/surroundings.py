"""What programs take from their surroundings, replaced for the whole Python process while a simulation runs.

Clocks, entropy and SQLite are asked for by what Huskies is built on, too, so no parameter of Huskies could
reach them all: `time`, `secrets`, `os.urandom`, `random` and `sqlite3.connect` are replaced, and put back.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies.testing import disk
from huskies.testing.loop import CURRENT, SimulatedLoop

_KEY_BYTES = 32


@contextlib.contextmanager
def replaced(owner: object, **values: object) -> Generator[None]:
    """Meanwhile, these attributes have other values."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextlib.contextmanager
def simulated(loop: SimulatedLoop, entropy: Random) -> Generator[None]:
    """Meanwhile, time is the loop's and the place's, and chance is drawn from `entropy`."""
    state = random.getstate()
    random.seed(entropy.getrandbits(64))
    with contextlib.ExitStack() as stack:
        stack.callback(random.setstate, state)
        stack.enter_context(replaced(os, urandom=entropy.randbytes))
        stack.enter_context(
            replaced(
                secrets,
                token_bytes=lambda count=32: entropy.randbytes(count),
                token_hex=lambda count=32: entropy.randbytes(count).hex(),
                token_urlsafe=lambda count=32: entropy.randbytes(count).hex(),
                randbelow=entropy.randrange,
            )
        )
        stack.enter_context(replaced(Ed25519PrivateKey, generate=_key_maker(entropy)))
        stack.enter_context(replaced(sqlite3, connect=disk.connect))
        stack.enter_context(
            replaced(
                time,
                time=lambda: _wall(loop),
                time_ns=lambda: int(_wall(loop) * 1e9),
                monotonic=loop.time,
                perf_counter=loop.time,
            )
        )
        yield


def _wall(loop: SimulatedLoop) -> float:
    process = CURRENT.get(loop.root)
    return loop.time() if process.place is None else process.place.clock.now()


def _key_maker(entropy: Random) -> Callable[[], Ed25519PrivateKey]:
    return lambda: Ed25519PrivateKey.from_private_bytes(entropy.randbytes(_KEY_BYTES))
