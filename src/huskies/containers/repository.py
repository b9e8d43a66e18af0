"""A new project's directory: cloned, begun afresh, or taken as it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Final

from huskies.containers.errors import NameTakenError, ProjectError
from huskies.containers.images import DEV_UID
from huskies.containers.threads import in_thread
from huskies.containers.undo import Undo
from huskies.logs import redact
from huskies.sled.layout import Layout, begin
from huskies.sockets import clean
from huskies.storage.files import ensure_private_directory

# Seconds; a large repository over a slow line.
CLONE_LIMIT: Final = 900.0
_CONFIG_LIMIT: Final = 10.0
# It asks nobody for anything, and speaks only what `wanted.is_git_url` lets through.
_GIT_ENVIRONMENT: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
    "GIT_PROTOCOL_FROM_USER": "0",
    "LC_ALL": "C",
}


class CloneError(ProjectError):
    """git did not clone the repository; the message ends with what it said."""


async def prepare(directory: Path, git: str | None, undo: Undo) -> None:
    """Have the project's directory; what is in one that is there already stays as it is.

    Raises `ProjectError`.
    """
    try:
        await in_thread(partial(ensure_private_directory, directory.parent, parents=True))
        if await in_thread(partial(_is_in_use, directory)):
            if git is not None:
                raise NameTakenError(
                    f"{directory} is there and not empty: leave git out to take it as it is, or move it away"
                )
            return
        undo.add(f"directory {directory}", lambda: in_thread(partial(_remove, directory)))
        await in_thread(partial(directory.mkdir, 0o700, exist_ok=True))
        if git is None:
            await _run("init", "--quiet", "--initial-branch=main", "--", str(directory))
            await in_thread(partial(begin, Layout(directory)))
        else:
            await _run("clone", "--quiet", "--", git, str(directory))
        await in_thread(partial(_give_away, directory))
    except OSError as error:
        raise ProjectError(f"{error.filename or directory}: cannot be made: {error.strerror}") from None


async def configured(key: str) -> str:
    """What this user's own git configuration says of a key; empty where nothing."""
    try:
        return (await _run("config", "--global", "--get", key, limit=_CONFIG_LIMIT)).strip()
    except ProjectError:
        return ""


async def remove(directory: Path) -> None:
    """Remove a project's directory with all that is in it; raises `ProjectError`."""
    try:
        await in_thread(partial(_remove, directory))
    except OSError as error:
        raise ProjectError(
            f"{error.filename or directory}: cannot be removed: {error.strerror}",
            left=(f"directory {directory}",),
        ) from None


def _is_in_use(directory: Path) -> bool:
    return directory.is_symlink() or (directory.exists() and any(directory.iterdir()))


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _give_away(directory: Path) -> None:
    """Where root runs the gateway, whoever works in the container owns the directory."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return
    for where, directories, files in os.walk(directory):
        for name in (*directories, *files):
            # A link itself, and never what it points to.
            os.chown(Path(where) / name, DEV_UID, DEV_UID, follow_symlinks=False)
    os.chown(directory, DEV_UID, DEV_UID)


async def _run(*arguments: str, limit: float | None = None) -> str:
    """What git printed; raises `CloneError` with what it said. Nothing of it runs on when this returns."""
    limit = CLONE_LIMIT if limit is None else limit
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_GIT_ENVIRONMENT},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ProjectError("git is not installed where the gateway runs; install it") from None
    try:
        async with asyncio.timeout(limit):
            printed, said = await process.communicate()
    except TimeoutError:
        raise CloneError(f"git {arguments[0]} was not done within {limit:g} s") from None
    finally:
        if process.returncode is None:
            # With the helpers that it started.
            _end(process.pid)
            await process.communicate()
    if process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        telling = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        raise CloneError(f"git {arguments[0]} failed: {clean(redact(telling))}")
    return printed.decode("utf-8", "replace")


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
