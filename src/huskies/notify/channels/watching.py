"""What became of what a thread sent: Apprise's plugins say of any failure no more than that there was one.

Two ways out are watched, which nearly all of them take: requests, and `socket.create_connection` (mail). Of
threads that are not watched nothing is noted.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, TypeVar

from requests import RequestException
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout, InvalidURL, ProxyError
from urllib3.exceptions import NewConnectionError

_Answer = TypeVar("_Answer")

_REFUSALS: Final = range(400, 600)
# A proxy says so of what it may have passed on.
_OF_PROXIES: Final = (502, 504)


class Attempts:
    """What a thread tried to send: `unsent` did not get out, `refused` was answered with a no.

    `passed`: all else; it may have been taken.
    """

    def __init__(self) -> None:
        self.unsent = self.refused = self.passed = 0

    @property
    def surely_nothing(self) -> bool:
        """Whether it is certain that nothing was taken; False where nothing was seen."""
        return not self.passed and bool(self.unsent or self.refused)


class _Here(threading.local):
    attempts: Attempts | None = None


_here: Final = _Here()


@contextmanager
def watched() -> Iterator[Attempts]:
    """Note what this thread sends in the block."""
    _here.attempts = attempts = Attempts()
    try:
        yield attempts
    finally:
        _here.attempts = None


def _watching_requests(send: Callable[..., _Answer]) -> Callable[..., _Answer]:
    @wraps(send)
    def watching(*arguments: Any, **more: Any) -> _Answer:  # noqa: ANN401 - passes on whatever comes
        attempts = _here.attempts
        if attempts is None:
            return send(*arguments, **more)
        try:
            answer = send(*arguments, **more)
        except BaseException as error:
            if _is_before_sending(error):
                attempts.unsent += 1
            else:
                attempts.passed += 1
            raise
        status = getattr(answer, "status_code", 0)
        if status in _REFUSALS and status not in _OF_PROXIES:
            attempts.refused += 1
        else:
            attempts.passed += 1
        return answer

    return watching


def _watching_connections(connect: Callable[..., _Answer]) -> Callable[..., _Answer]:
    @wraps(connect)
    def watching(*arguments: Any, **more: Any) -> _Answer:  # noqa: ANN401 - passes on whatever comes
        attempts = _here.attempts
        if attempts is None:
            return connect(*arguments, **more)
        try:
            connection = connect(*arguments, **more)
        except OSError:
            attempts.unsent += 1
            raise
        attempts.passed += 1
        return connection

    return watching


def _is_before_sending(error: BaseException) -> bool:
    """Whether there was no connection yet: refused, no such name, too slow, or to someone else."""
    if isinstance(error, ConnectTimeout | InvalidURL | ProxyError):
        return True
    if not isinstance(error, RequestException) or not error.args:
        return False
    reason = getattr(error.args[0], "reason", None)
    cause = reason.args[0] if isinstance(reason, Exception) and reason.args else None
    return isinstance(reason, NewConnectionError) or isinstance(cause, ssl.SSLCertVerificationError)


# Neither has a place of its own to listen at.
setattr(HTTPAdapter, "send", _watching_requests(HTTPAdapter.send))  # noqa: B010 - a method, which mypy guards
setattr(socket, "create_connection", _watching_connections(socket.create_connection))  # noqa: B010 - as above
