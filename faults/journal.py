"""What a sled attempted and what it was told, in files that no huskies process knows of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from huskies.sled.broadcast import Receipt


class Told(NamedTuple):
    """A receipt: the event with this number has this identity."""

    number: int
    sled_id: str
    epoch: str
    seq: int


class Journal:
    """One sled's two files. A line is one `write`, so it is there whatever happens to the process next.

    Of one that spans two of the kernel's pages a SIGKILL may leave the beginning alone: that is no line.
    """

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._attempted = directory / f"{name}.attempted"
        self._acknowledged = directory / f"{name}.acknowledged"
        self._runs = directory / f"{name}.runs"
        self._files: dict[Path, int] = {}

    def begin_run(self) -> int:
        """Count a start of the sled; says which it is, from 1."""
        self._append(self._runs, "started")
        return len(_lines(self._runs))

    def attempted(self, number: int) -> None:
        self._append(self._attempted, str(number))

    def acknowledged(self, number: int, receipt: Receipt) -> None:
        self._append(
            self._acknowledged, f"{number} {receipt.sled_id or '-'} {receipt.epoch or '-'} {receipt.seq}"
        )

    def last_attempted(self) -> int:
        return max(self.all_attempted(), default=0)

    def all_attempted(self) -> list[int]:
        return [int(line) for line in _lines(self._attempted)]

    def all_acknowledged(self) -> list[Told]:
        found = (line.split() for line in _lines(self._acknowledged))
        return [Told(int(number), sled_id, epoch, int(seq)) for number, sled_id, epoch, seq in found]

    def _append(self, path: Path, line: str) -> None:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.truncate(path, _whole(path.read_bytes()))
        os.write(self._files[path], f"{line}\n".encode())


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    content = path.read_bytes()
    return content[: _whole(content)].decode().splitlines()


def _whole(content: bytes) -> int:
    """How many bytes of it are whole lines."""
    return content.rfind(b"\n") + 1
