"""One question to the homeserver: nio tells some failures by values, others by errors of many kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import aiohttp
from nio import AsyncClient, ErrorResponse, LocalProtocolError

from huskies.errors import HuskiesError
from huskies.sockets import clean

REQUEST_LIMIT: Final = 30.0
_UNKNOWN_TOKEN: Final = "M_UNKNOWN_TOKEN"  # noqa: S105 - the name of an error
# Whoever asks again gets the same answer.
_FINAL: Final = (400, 403, 404)

_Answer = TypeVar("_Answer")


class HomeserverError(HuskiesError):
    """The homeserver did not do what was asked; trying again may help.

    `retry_after` (s) is what it asked for. `refused`: it understood, and would say the same again. `code` is
    its name for what is wrong, such as M_FORBIDDEN.
    """

    def __init__(
        self, problem: str, *, retry_after: float | None = None, refused: bool = False, code: str = ""
    ) -> None:
        super().__init__(problem)
        self.retry_after = retry_after
        self.refused = refused
        self.code = code


class LoggedOutError(HuskiesError):
    """The homeserver does not know the bot's access token any more."""


async def ask(
    client: AsyncClient, asking: Awaitable[Any], shape: type[_Answer], what: str, limit: float = REQUEST_LIMIT
) -> _Answer:
    """The homeserver's answer, which has `limit` seconds; raises `HomeserverError` and `LoggedOutError`."""
    try:
        async with asyncio.timeout(limit):
            answer = await asking
    except aiohttp.ClientConnectorError as error:
        raise HomeserverError(f"it cannot be reached: {reason(error)}") from None
    except TimeoutError:
        raise HomeserverError(f"no answer within {limit:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise HomeserverError(f"the connection broke: {reason(error)}") from None
    except RuntimeError as error:
        if not is_closed(error):
            raise
        raise HomeserverError("the connection was closed, to log in again") from None
    except LocalProtocolError as error:
        if not client.logged_in:
            # Where another request was told so.
            raise LoggedOutError("it does not know the bot's access token any more") from None
        raise HomeserverError(f"the session is not ready: {reason(error)}") from None
    if isinstance(answer, ErrorResponse):
        raise _refusal(answer, what)
    if not isinstance(answer, shape):
        raise HomeserverError(f"it answered {what} with {type(answer).__name__}")
    return answer


def _refusal(answer: ErrorResponse, what: str) -> HomeserverError | LoggedOutError:
    words, status = words_of(answer), status_of(answer)
    if answer.status_code == _UNKNOWN_TOKEN:
        return LoggedOutError(f"it does not know the bot's access token any more: {words}")
    return HomeserverError(
        f"it refused {what} with {status or '?'}: {words}",
        retry_after=None if answer.retry_after_ms is None else answer.retry_after_ms / 1_000,
        refused=status in _FINAL,
        code=str(answer.status_code or ""),
    )


def status_of(answer: ErrorResponse) -> int:
    """The HTTP status that came; 0 where none did."""
    return int(getattr(getattr(answer, "transport_response", None), "status", 0))


def words_of(answer: ErrorResponse) -> str:
    """What the homeserver said, on one line."""
    return clean(f"{answer.status_code or ''} {answer.message}".strip())


def is_closed(error: RuntimeError) -> bool:
    """Whether aiohttp says so that its session was closed: it has no error of its own for that."""
    return str(error) == "Session is closed"


def reason(error: Exception) -> str:
    """What went wrong, in words and on one line."""
    inner = getattr(error, "os_error", None) or error
    return clean(getattr(inner, "strerror", None) or str(inner) or type(inner).__name__)
