"""What can go wrong with a project's container, each with what is still there of it."""

from __future__ import annotations

from huskies.errors import EXIT_USAGE, HuskiesError


class ProjectError(HuskiesError):
    """Something was not done for a project; `left` names what was made and could not be removed again."""

    def __init__(self, message: str, *, left: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.left = left


class InvalidProjectError(ProjectError):
    """What was asked for cannot be: the message names the key and what was expected."""

    exit_status = EXIT_USAGE


class NameTakenError(ProjectError):
    """There is, or is just becoming, a project of this name."""


class UnknownProjectError(ProjectError):
    """This gateway has made no container for a project of this name."""


class EngineError(ProjectError):
    """The container engine did not do what it was asked for."""


class EngineUnreachableError(EngineError):
    """No container engine answers."""
