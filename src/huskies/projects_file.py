"""Changing projects.toml, leaving everything else in it as someone wrote it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import tomlkit
from filelock import FileLock
from tomlkit import TOMLDocument
from tomlkit.items import InlineTable, Table

from huskies.config import PROJECTS_FILE, load_projects
from huskies.errors import ConfigError

_PROJECTS: Final = "projects"


def list_project(data_dir: Path, name: str, *, url: str, container: str, directory: str) -> None:
    """Enter a project that the gateway made; raises `ConfigError`."""
    with editing(data_dir) as document:
        projects = document.setdefault(_PROJECTS, tomlkit.table(is_super_table=True))
        # A table that was written in one line takes nothing else.
        entry = tomlkit.inline_table() if isinstance(projects, InlineTable) else tomlkit.table()
        entry.update({"url": url, "container": container, "directory": directory})
        projects[name] = entry


def unlist_project(data_dir: Path, name: str) -> None:
    """Take a project out, whether or not it is there; raises `ConfigError`."""
    with editing(data_dir) as document:
        document.get(_PROJECTS, {}).pop(name, None)


def table(document: TOMLDocument, name: str) -> Table:
    """The document's table of this name, made where it is missing."""
    found: Table = document.setdefault(name, tomlkit.table())
    return found


@contextmanager
def editing(data_dir: Path) -> Iterator[TOMLDocument]:
    """The document to change; written back when the block ends without an error. One process at a time."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The link may point into someone's configuration repository: its target is what changes.
        path = (data_dir / PROJECTS_FILE).resolve()
        with FileLock(data_dir / f".{PROJECTS_FILE}.lock"):
            load_projects(data_dir)
            document = tomlkit.parse(path.read_bytes() if path.exists() else b"")
            yield document
            text = tomlkit.dumps(document)
            _check(path, text)
            _replace(path, text)
    except OSError as error:
        raise ConfigError(
            str(error.filename or data_dir),
            f"cannot be written: {error.strerror}; run it as the gateway's user, or give another --data-dir",
        ) from None


def _check(path: Path, text: str) -> None:
    """Raises `ConfigError` where the changed file would not be understood: some forms have no room."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
        changed = Path(directory) / PROJECTS_FILE
        changed.touch(0o600)
        changed.write_text(text, encoding="utf-8", newline="")
        try:
            load_projects(Path(directory))
        except ConfigError as error:
            raise ConfigError(
                str(path),
                f"cannot be changed as it is written ({error.problem}); write each project as a table of its "
                "own, [projects.NAME]",
            ) from None


def _replace(path: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner only: it holds secrets."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
