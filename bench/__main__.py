"""`python -m bench`: measures huskies and what users would pick instead, and prints one table."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.biglog import measure_log
from bench.counts import measure_counts
from bench.dashboard import measure_dashboard
from bench.emit import measure_emit
from bench.hostile import measure_hostile
from bench.idle import measure_idle
from bench.ingest import measure_ingest, measure_lockstep, measure_single
from bench.latency import measure_acks, measure_publish
from bench.peers import measure_peers
from bench.replication import measure_replication
from bench.report import Table, load, machine
from bench.sampling import profile_ingest
from bench.setting import FULL, QUICK, Bench
from bench.telling import measure_telling

_MEASUREMENTS: Final[dict[str, Callable[[Bench], None]]] = {
    "ingest": measure_ingest,
    "single": measure_single,
    "lockstep": measure_lockstep,
    "acks": measure_acks,
    "publish": measure_publish,
    "hostile": measure_hostile,
    "idle": measure_idle,
    "replication": measure_replication,
    "log": measure_log,
    "counts": measure_counts,
    "telling": measure_telling,
    "emit": measure_emit,
    "dashboard": measure_dashboard,
    "peers": measure_peers,
}
# Sender and receiver are threads of one process: neither shall wait long for the other.
_SWITCH_INTERVAL: Final = 0.0005


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure huskies against its targets and its peers, on this machine.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; judges nothing"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--only",
        action="append",
        choices=_MEASUREMENTS,
        metavar="NAME",
        help=f"measure only this; can be repeated: {', '.join(_MEASUREMENTS)}",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="only sample a gateway during ingest, with py-spy if installed, and write its stacks to FILE",
    )
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # So that what was started is stopped and what was written removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scratch = Path(tempfile.mkdtemp(prefix="huskies-bench-"))
    bench = Bench(
        sizes=QUICK if arguments.quick else FULL, scratch=scratch, table=Table(judged=not arguments.quick)
    )
    started = time.perf_counter()
    load_before = load()
    failed = False
    try:
        if arguments.profile is not None:
            profile_ingest(bench, arguments.profile)
            return 0
        for name in arguments.only or _MEASUREMENTS:
            print(name, file=sys.stderr, flush=True)
            try:
                _MEASUREMENTS[name](bench)
            except Exception as error:  # noqa: BLE001 - the others are still worth measuring
                failed = True
                bench.table.remark(f"{name} failed: {type(error).__name__}: {error}")
            bench.clear()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"\n{machine()}")
    command = " ".join(("python -m bench", *sys.argv[1:]))
    print(f"`{command}`, {time.perf_counter() - started:.0f} s; {load_before} when it began\n")
    print(bench.table.markdown() if arguments.markdown else bench.table.plain())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
