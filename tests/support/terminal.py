"""A program under a real pseudo-terminal, and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pyte

SOURCES = Path(__file__).parents[2] / "src"
PATIENCE = 60.0


class Terminal:
    """`huskies` with these arguments in a terminal of this size; what it writes is taken in as it comes."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 24, **variables: str) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self._over = False
        self.written = b""
        self._master, slave = pty.openpty()
        _set_size(slave, columns, rows)
        outside = {key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            outside.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            env={**outside, "TERM": "xterm-256color", "PYTHONPATH": str(SOURCES), **variables},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose program has ended is at its end, or broken, as the platform likes.
        with suppress(OSError):
            while data := os.read(self._master, 65_536):
                with self._changed:
                    self.written += data
                    self._stream.feed(data)
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, from the top."""
        with self._changed:
            return self._lines()

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def shows(self, *texts: str, without: Sequence[str] = ()) -> list[str]:
        """Wait until all of these stand on the screen, and none of those; return its lines.

        What is drawn in another's place comes in pieces: between two of them both may stand there.
        """
        return self.shown(
            lambda screen: (
                all(text in screen for text in texts) and not any(text in screen for text in without)
            ),
            f"{texts} without {without}",
        )

    def shown(self, holds: Callable[[str], bool], what: str) -> list[str]:
        """Wait until this holds of what stands on the screen, and return its lines as they are then."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not holds("\n".join(self._screen.display)):
                left = end - time.monotonic()
                if self._over or left < 0:
                    raise AssertionError(f"not shown: {what}\n" + "\n".join(self._screen.display))
                self._changed.wait(left)
            return self._lines()

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Pull the window to this size."""
        with self._changed:
            self._screen.resize(rows, columns)
        _set_size(self._master, columns, rows)
        self._process.send_signal(signal.SIGWINCH)

    def end(self, number: int | None = None) -> int:
        """Send the signal, if any, and wait for the end and for its last output; returns the exit status."""
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def close(self) -> None:
        """End what may still run, and the terminal."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._master)


# The terminal becomes the one that Ctrl-C acts on, which a new session has none of yet.
_START = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from huskies.cli.main import main; main()"
)


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
