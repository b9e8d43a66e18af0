"""A layer between SQLite and the disk, in the SQLite that Python uses, written with ctypes.

The default VFS is copied with other `xOpen` and `xDelete`; a file that it opens gets a copy of its method
table with other `xWrite`, `xTruncate` and `xSync`. Everything else is the real one's.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from typing import Any

from faults.disk.durable import Durable
from faults.disk.failing import Failing

SQLITE_OK = 0
SQLITE_FULL = 13
SQLITE_IOERR_WRITE = 10 | 3 << 8
SQLITE_IOERR_FSYNC = 10 | 4 << 8
SQLITE_OPEN_CREATE = 0x4
# Whose directory SQLite syncs together with their first sync: main and super journal, WAL.
_OPEN_JOURNAL = 0x800 | 0x4000 | 0x80000

_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`; those of version 2 and 3 are carried along."""

    _fields_ = (
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", c_void_p),
        ("xWrite", _Write),
        ("xTruncate", _Truncate),
        ("xSync", _Sync),
        ("others", c_void_p * 13),
    )


class _File(ctypes.Structure):
    _fields_ = (("pMethods", POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`; what is not touched is carried along."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", _Open),
        ("xDelete", _Delete),
        ("others", c_void_p * 14),
    )


# SQLite keeps pointers to all of these as long as the process lives.
_kept: list[Any] = []


class _Layer:
    """The functions that SQLite calls; files are known by the address of SQLite's structure."""

    def __init__(
        self, real: _Vfs, store: Durable | None, failing: Failing | None, forget: str | None
    ) -> None:
        self._real_open, self._real_delete = real.xOpen, real.xDelete
        self._store = store
        self._failing = failing
        self._forget = forget
        self._paths: dict[int, str] = {}
        self._new_journals: set[int] = set()
        self._tables: dict[int, tuple[_Methods, _Methods]] = {}
        self._real_of: dict[int, _Methods] = {}

    def open(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        status: int = self._real_open(vfs, name, file, flags, out)
        structure = ctypes.cast(file, POINTER(_File))[0]
        if status != SQLITE_OK or not structure.pMethods:
            return status
        path = os.fsdecode(ctypes.string_at(name)) if name else ""
        self._paths[file] = path
        self._new_journals.discard(file)
        if flags & SQLITE_OPEN_CREATE and flags & _OPEN_JOURNAL:
            self._new_journals.add(file)
        address = ctypes.addressof(structure.pMethods[0])
        if address not in self._tables:
            self._tables[address] = (structure.pMethods[0], self._planted(structure.pMethods[0]))
        self._real_of[file], planted = self._tables[address]
        structure.pMethods = ctypes.pointer(planted)
        return status

    def delete(self, vfs: int, name: bytes, sync_directory: int) -> int:
        path = os.fsdecode(name)
        status: int = self._real_delete(vfs, name, 0 if self._on_disk(path) else sync_directory)
        if status == SQLITE_OK and self._store is not None and self._on_disk(path):
            self._store.removed(path)
            if sync_directory and self._forget != "all":
                self._store.sync_directory(os.path.dirname(path))
        return status

    def write(self, file: int, data: int, count: int, offset: int) -> int:
        path = self._paths[file]
        if self._failing is not None and self._failing.fails("write", path):
            return SQLITE_FULL if self._failing.error == errno.ENOSPC else SQLITE_IOERR_WRITE
        if self._store is not None:
            self._store.wrote(path, offset, count)
        return int(self._real_of[file].xWrite(file, data, count, offset))

    def truncate(self, file: int, size: int) -> int:
        status = int(self._real_of[file].xTruncate(file, size))
        if self._store is not None:
            self._store.truncated(self._paths[file])
        return status

    def sync(self, file: int, flags: int) -> int:
        path = self._paths[file]
        if self._failing is not None and self._failing.fails("fsync", path):
            return SQLITE_IOERR_FSYNC
        if not self._on_disk(path) or self._store is None:
            return int(self._real_of[file].xSync(file, flags))
        if self._forget == "all" or (self._forget == "wal" and path.endswith("-wal")):
            return SQLITE_OK
        self._store.sync_file(path)
        if file in self._new_journals:
            self._new_journals.discard(file)
            self._store.sync_directory(os.path.dirname(path))
        return SQLITE_OK

    def _on_disk(self, path: str) -> bool:
        return self._store is not None and self._store.holds(path)

    def _planted(self, real: _Methods) -> _Methods:
        planted = _Methods()
        ctypes.memmove(ctypes.byref(planted), ctypes.byref(real), ctypes.sizeof(_Methods))
        planted.xWrite = _Write(self.write)
        planted.xTruncate = _Truncate(self.truncate)
        planted.xSync = _Sync(self.sync)
        return planted


def plant(store: Durable | None, failing: Failing | None, *, forget: str | None) -> None:
    """Make the layer the default VFS of this process."""
    # The extension module is linked against the library, or holds it, or the interpreter does: either way
    # its symbols are found.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    real = library.sqlite3_vfs_find(None)[0]
    planted = _Vfs()
    ctypes.memmove(ctypes.byref(planted), ctypes.byref(real), ctypes.sizeof(_Vfs))
    layer = _Layer(real, store, failing, forget)
    planted.pNext = None
    planted.zName = b"planted"
    planted.xOpen = _Open(layer.open)
    planted.xDelete = _Delete(layer.delete)
    _kept.extend((library, real, planted, layer))
    assert library.sqlite3_vfs_register(ctypes.byref(planted), 1) == SQLITE_OK
