"""Backups of a gateway: taken beside it while it runs, and laid out again in an empty directory.

A backup is a directory: so it is one copy of the log and not two, can be checked where it lies (`huskies
verify --data-dir BACKUP`), and what copies directories copies it. It has no gateway key, for what is restored
is another gateway than the original.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from huskies import __version__
from huskies.config import PROJECTS_FILE
from huskies.errors import ConfigError, StoreError
from huskies.gateway import keys
from huskies.gateway.access import file as access_file
from huskies.gateway.store import log_store
from huskies.gateway.store.neighbours import last_block
from huskies.gateway.store.views import discard_index
from huskies.storage.sqlite import open_reader

MANIFEST: Final = "backup.json"
_FORMAT: Final = 1
# What stands beside the log, if it does; where it is there already, it stays as it is.
_BESIDE: Final = (PROJECTS_FILE, access_file.FILE_NAME)
_READ_BYTES: Final = 1 << 20


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: the log up to the event at `position`, where its checksum is `chain`."""

    format: int
    huskies: str
    made_ms: int
    log_id: str
    position: int
    chain: str
    files: dict[str, File]


def make(data_dir: Path, dest: Path, now_ms: int) -> Manifest:
    """Back the gateway in `data_dir` up as the new directory `dest`.

    Raises `ConfigError`, and `StoreError` where the log cannot be read.
    """
    log = data_dir / log_store.FILE_NAME
    if not log.is_file():
        raise ConfigError(str(log), "expected a gateway's log; name its directory with --data-dir")
    if dest.exists() or dest.is_symlink():
        raise ConfigError(str(dest), "is there already, and is not overwritten; name another")
    partial = dest.with_name(f".{dest.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(mode=0o700)
        try:
            manifest = _fill(partial, data_dir, now_ms)
            _write(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
            _sync(partial)
            partial.rename(dest)
            _sync(dest.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ConfigError(str(dest), f"cannot be written: {error.strerror}; name another place") from None
    except sqlite3.Error as error:
        raise StoreError(f"{log}: cannot be copied: {error}") from None
    return manifest


def _fill(partial: Path, data_dir: Path, now_ms: int) -> Manifest:
    copy = partial / log_store.FILE_NAME
    log_id, position, chain = _copy_log(data_dir / log_store.FILE_NAME, copy)
    names = [copy.name]
    projects = data_dir / PROJECTS_FILE
    if projects.is_file():
        _write(partial / projects.name, projects.read_bytes())
        names.append(projects.name)
    access = data_dir / access_file.FILE_NAME
    if access.is_file():
        _copy_database(access, partial / access.name)
        # Who logged in, logs in again: a session that ended meanwhile must not come back.
        with contextlib.closing(_opened(partial / access.name)) as copied:
            copied.execute("DELETE FROM logins")
        names.append(access.name)
    files = {}
    for name in names:
        _sync(partial / name)
        files[name] = File(_sha256(partial / name), (partial / name).stat().st_size)
    return Manifest(_FORMAT, __version__, now_ms, log_id, position, f"{chain:08x}", files)


def _copy_log(source: Path, copy: Path) -> tuple[str, int, int]:
    _copy_database(source, copy)
    with contextlib.closing(_opened(copy)) as target:
        return log_store.log_id(target), *last_block(target)


def _copy_database(source: Path, copy: Path) -> None:
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(open_reader(source)) as reader, contextlib.closing(_opened(copy)) as target:
        # In one step, so as of one moment: a gateway that writes meanwhile does not make it begin anew.
        reader.backup(target)
        # Without a WAL beside it the copy is one file, and can be read where nothing can be written.
        target.execute("PRAGMA journal_mode = DELETE")


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def read_manifest(source: Path) -> Manifest:
    """What a backup says that it holds; raises `ConfigError` where it is none."""
    path = source / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigError(
            str(path), f"expected a backup, as `huskies backup` makes it: {error.strerror}"
        ) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(str(path), f"expected the manifest of a backup: {error}") from None
    if manifest.format != _FORMAT:
        raise ConfigError(str(path), f"is of format {manifest.format}; a newer Huskies reads it")
    if log_store.FILE_NAME not in manifest.files or not set(manifest.files) <= {
        log_store.FILE_NAME,
        *_BESIDE,
    }:
        raise ConfigError(str(path), "expected the manifest of a backup: it names other files")
    return manifest


@contextlib.contextmanager
def restored(source: Path, data_dir: Path, manifest: Manifest) -> Iterator[Path]:
    """Copy a backup into `data_dir` and yield the log's path there, still under another name.

    It is the gateway's when the context ends without an error; else nothing remains of it. Raises
    `ConfigError`, and `StoreError` where the backup is not what its manifest says.
    """
    log = data_dir / log_store.FILE_NAME
    if log.exists():
        raise ConfigError(str(log), "is there already, and is not overwritten; name an empty directory")
    partials: dict[str, Path] = {}
    try:
        for name, file in manifest.files.items():
            partials[name] = data_dir / f".restoring-{name}"
            _copy_checked(source / name, partials[name], file)
        yield partials[log_store.FILE_NAME]
        _settle(data_dir, partials)
    except OSError as error:
        raise ConfigError(str(data_dir), f"cannot be restored to: {error.strerror or error}") from None
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def _settle(data_dir: Path, partials: dict[str, Path]) -> None:
    discard_index(data_dir)
    # What is restored is another gateway than the one that was backed up.
    key = data_dir / keys.FILE_NAME
    if key.exists():
        key.replace(key.with_suffix(".before-restore"))
    for name in _BESIDE:
        if name in partials and not (data_dir / name).exists():
            partials[name].rename(data_dir / name)
    for suffix in ("-wal", "-shm"):
        (data_dir / f"{log_store.FILE_NAME}{suffix}").unlink(missing_ok=True)
    partials[log_store.FILE_NAME].rename(data_dir / log_store.FILE_NAME)
    _sync(data_dir)


def _copy_checked(source: Path, copy: Path, file: File) -> None:
    copy.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with (
        source.open("rb") as reader,
        os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer,
    ):
        while data := reader.read(_READ_BYTES):
            digest.update(data)
            writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    if digest.hexdigest() != file.sha256:
        raise StoreError(f"{source}: is not what was backed up: its SHA-256 is {digest.hexdigest()}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Flush a file or, where the platform can, a directory."""
    if path.is_dir() and os.name != "posix":
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
