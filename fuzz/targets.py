"""Every fuzz target, in the order of the path of what comes from outside."""

from __future__ import annotations

from typing import Final

from fuzz import chat, events, files, headers, projects, served, sessions, stored, terminal
from fuzz.target import Target

TARGETS: Final[tuple[Target, ...]] = (
    *files.TARGETS,
    *events.TARGETS,
    *sessions.TARGETS,
    *headers.TARGETS,
    *projects.TARGETS,
    *served.TARGETS,
    *stored.TARGETS,
    *terminal.TARGETS,
    *chat.TARGETS,
)
