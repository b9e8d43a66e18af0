"""`python -m faults`: puts real huskies processes under faults, and says for each what was done and found."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from faults.catalogue import FAULTS, Fault
from faults.setting import QUICK, WHOLE, Setting


@dataclasses.dataclass
class Outcome:
    """What became of one fault; `problem` is empty where its invariant held."""

    fault: Fault
    seconds: float
    facts: str
    problem: str

    def plain(self) -> str:
        head = f"{self.fault.number:>2} {self.fault.name}: {'FAILED' if self.problem else 'held'}"
        lines = [f"{head} ({self.seconds:.0f} s)", f"   {self.facts}", *self.problem.splitlines()[:20]]
        return "\n".join(lines)

    def markdown(self) -> str:
        held = "**failed**" if self.problem else "held"
        return f"| {self.fault.number} | {self.fault.what} | {held} | {self.facts} | {self.seconds:.0f} s |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults", description="Put real huskies processes under faults."
    )
    parser.add_argument("--quick", action="store_true", help="the small form that the tests run")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--seed", type=int, default=7, help="draws other faults; a failing run names its own")
    names = [fault.name for fault in FAULTS]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"only this; can be repeated: {', '.join(names)}",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write here, and leave everything there")
    return parser.parse_args()


def _carry_out(fault: Fault, arguments: argparse.Namespace, directory: Path) -> Outcome:
    setting = Setting(QUICK if arguments.quick else WHOLE, arguments.seed, directory / fault.name)
    setting.report.note("seed", str(arguments.seed))
    started = time.perf_counter()
    problem = ""
    try:
        fault.run(setting)
    except Exception as error:  # noqa: BLE001 - the others are still worth a run
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        problem = f"{type(error).__name__}: {error}{notes}"
    return Outcome(fault, time.perf_counter() - started, str(setting.report), problem)


def _outcomes(arguments: argparse.Namespace, directory: Path) -> Iterator[Outcome]:
    for fault in FAULTS:
        if arguments.only and fault.name not in arguments.only:
            continue
        print(f"{fault.number} {fault.name} …", file=sys.stderr, flush=True)
        outcome = _carry_out(fault, arguments, directory)
        if not arguments.keep:
            shutil.rmtree(directory / fault.name, ignore_errors=True)
        if not arguments.markdown:
            print(outcome.plain(), flush=True)
        yield outcome


def main() -> int:
    arguments = _arguments()
    # So that what was started is stopped and what was written removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory: Path = arguments.keep or Path(tempfile.mkdtemp(prefix="huskies-faults-"))
    try:
        outcomes = list(_outcomes(arguments, directory))
    finally:
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if arguments.markdown:
        print(
            "| # | fault | its invariant | what was done and found | took |\n| --- | --- | --- | --- | --- |"
        )
        print("\n".join(outcome.markdown() for outcome in outcomes))
        for outcome in outcomes:
            print(outcome.problem, file=sys.stderr)
    failed = [outcome.fault.name for outcome in outcomes if outcome.problem]
    if failed:
        repeat = " ".join(f"--only {name}" for name in failed)
        quick = "--quick " if arguments.quick else ""
        print(f"\nfailed; again with: python -m faults {quick}--seed {arguments.seed} {repeat}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
