"""The one tree of errors that Huskies raises; each says what was expected, what came, and where."""

from __future__ import annotations

EXIT_FAILURE = 1
EXIT_USAGE = 2


class HuskiesError(Exception):
    """Base of every error raised on purpose; `exit_status` is what a command ends with."""

    exit_status = EXIT_FAILURE


class ConfigError(HuskiesError):
    """A setting, file, directory or port that cannot be used.

    `where` names the file, key or port; `problem` says what was expected and what was found.
    """

    exit_status = EXIT_USAGE

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class InvalidEventError(HuskiesError):
    """An event that does not have the shape of SPEC 2; `index` is its place in the batch, from 0."""

    def __init__(self, problem: str, index: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.index = index


class ProtocolError(HuskiesError):
    """A frame or step that the relay protocol does not allow; `close_code` is the WebSocket's."""

    def __init__(self, problem: str, close_code: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.close_code = close_code


class StoreError(HuskiesError):
    """The durable store cannot be read or written; the process must stop rather than acknowledge."""


class CorruptLogError(StoreError):
    """Stored bytes whose checksum does not match; `position` is the block's first cursor position."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"the log is damaged at position {position}: {problem}")
        self.position = position


class CursorError(HuskiesError):
    """A cursor that is no cursor at all (HTTP 422), as opposed to one of another log."""


class GatewayUnreachableError(HuskiesError):
    """A command could not talk to the gateway at `url`."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"no gateway answers at {url}: {problem}")
        self.url = url
