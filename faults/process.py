"""`python -m faults.process [OPTION…] -- ARGUMENT…`: a huskies process with a fault planted in it.

The arguments are those of `huskies`, or `publish …` for sleds that publish by themselves (`faults.publish`).
What is planted stands below the product: its clock, its limits, and the calls that write to a disk.
"""

from __future__ import annotations

import argparse
import logging
import mmap
import os
import struct
import sys
import time
from pathlib import Path

from faults.disk import plant
from huskies import limits


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults.process", description=__doc__)
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=SECONDS", help="change a limit")
    parser.add_argument("--clock", type=Path, metavar="FILE", help="add what FILE says to the wall clock")
    parser.add_argument("--disk", type=Path, metavar="DIR", help="the directory on the planted disk")
    parser.add_argument("--durable", type=Path, metavar="DIR", help="where to keep what was synced of it")
    parser.add_argument("--forget", choices=("wal", "all"), help="syncs that do nothing and say they did")
    parser.add_argument("--fail", metavar="CALL:ERROR:SUFFIX:NUMBER", help="fail from that call on")
    return parser.parse_args(arguments)


def change_limits(changes: list[str]) -> None:
    """Before anything else is imported: a name that was imported already keeps its value."""
    for change in changes:
        name, _, value = change.partition("=")
        assert hasattr(limits, name), name
        setattr(limits, name, float(value))


def plant_clock(path: Path) -> None:
    """The wall clock goes wrong by what the file holds now, in seconds: a double that others write."""
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    seconds, nanoseconds = time.time, time.time_ns

    def wrong() -> float:
        shift: float = struct.unpack("d", offset)[0]
        return shift

    time.time = lambda: seconds() + wrong()
    time.time_ns = lambda: nanoseconds() + int(wrong() * 1e9)


def main() -> None:
    at = sys.argv.index("--")
    options, rest = _arguments(sys.argv[1:at]), sys.argv[at + 1 :]
    change_limits(options.limit)
    if options.clock is not None:
        plant_clock(options.clock)
    if options.disk is not None:
        plant(options.disk, durable=options.durable, forget=options.forget, fail=options.fail)
    status = _run(rest)
    if options.disk is None:
        sys.exit(status)
    # Files that SQLite still has open are closed while the interpreter is torn down, and with it the
    # functions that SQLite calls: it would find freed memory there.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(arguments: list[str]) -> int:
    # Imported here, after the limits were changed.
    if arguments[0] == "publish":
        from faults.publish import main as publish  # noqa: PLC0415 - see above

        return publish(arguments[1:])
    from huskies.cli.main import run  # noqa: PLC0415 - see above

    return run(arguments)


if __name__ == "__main__":
    main()
