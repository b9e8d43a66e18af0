"""Changing the sled tokens in projects.toml, leaving everything else in it as someone wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from huskies.errors import ConfigError, HuskiesError
from huskies.projects_file import editing, table

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
    with editing(data_dir) as document:
        tokens = table(document, _TABLE)
        if project not in tokens:
            raise HuskiesError(
                f"{project} has no sled token; `huskies token list` shows the projects that have"
            )
        del tokens[project]
