"""Ending together with whoever reads the output, as `huskies tail | head -1` should."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from typing import NoReturn


def end() -> NoReturn:
    """End the process with status 0, without the interpreter's last flush: nobody is there to read it."""
    os._exit(0)


def end_with_reader() -> None:
    """From now on, end when the pipe on stdout has no reader any more, even if nothing is written for hours.

    Does nothing where stdout is no pipe, or the platform cannot tell.
    """
    try:
        descriptor = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return
    if is_pipe and hasattr(select, "poll"):
        threading.Thread(target=_wait_and_end, args=(descriptor,), daemon=True).start()


def _wait_and_end(descriptor: int) -> None:
    pipe = select.poll()
    # No event is asked for; that the other end was closed is always told.
    pipe.register(descriptor, 0)
    pipe.poll()
    end()
