"""Changing the sled tokens in projects.toml, leaving everything else in it as someone wrote it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import tomlkit
from filelock import FileLock
from tomlkit.items import Table

from huskies.config import PROJECTS_FILE, load_projects
from huskies.errors import ConfigError, HuskiesError

_TABLE: Final = "sled_tokens"


def check_data_dir(data_dir: Path) -> None:
    """Raises `ConfigError` where there is no such directory: a misspelt one is no gateway without tokens."""
    if not data_dir.is_dir():
        raise ConfigError(
            f"--data-dir {data_dir}",
            "expected a gateway's directory, but there is none; name another, or make a first token with "
            "`huskies token make PROJECT`",
        )


def revoke_token(data_dir: Path, project: str) -> None:
    """Take the project's token out; raises `HuskiesError` where it has none."""
    check_data_dir(data_dir)
    with _sled_tokens(data_dir) as tokens:
        if project not in tokens:
            raise HuskiesError(
                f"{project} has no sled token; `huskies token list` shows the projects that have"
            )
        del tokens[project]


@contextmanager
def _sled_tokens(data_dir: Path) -> Iterator[Table]:
    """The table to change; written back when the block ends without an error. One process at a time."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The link may point into someone's configuration repository: its target is what changes.
        path = (data_dir / PROJECTS_FILE).resolve()
        with FileLock(data_dir / f".{PROJECTS_FILE}.lock"):
            load_projects(data_dir)
            document = tomlkit.parse(path.read_bytes() if path.exists() else b"")
            table = document.setdefault(_TABLE, tomlkit.table())
            yield table
            _replace(path, tomlkit.dumps(document))
    except OSError as error:
        raise ConfigError(
            str(error.filename or data_dir),
            f"cannot be written: {error.strerror}; run it as the gateway's user, or give another --data-dir",
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
