"""`python -m faults`: puts real huskies processes under faults, and says for each what was done and found."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from faults.catalogue import FAULTS
from faults.runner import Outcome, Plan, outcomes

_LINES = 15


def plain(outcome: Outcome) -> str:
    """For a person who waits for it."""
    fault = outcome.fault
    head = f"{fault.number:>2} {fault.name}: {'FAILED' if outcome.problem else 'held'}"
    took = f"{outcome.seconds:.0f} s, {outcome.processor_seconds:.0f} s of a processor"
    return "\n".join([f"{head} ({took})", f"   {outcome.facts}", *_shortened(outcome.problem.splitlines())])


def _shortened(lines: list[str]) -> list[str]:
    """What a process said may be long: how it began and how it ended matter."""
    return lines if len(lines) <= 2 * _LINES else [*lines[:_LINES], "…", *lines[-_LINES:]]


def markdown(outcome: Outcome) -> str:
    """A line of a table."""
    fault, held = outcome.fault, "**failed**" if outcome.problem else "held"
    return f"| {fault.number} | {fault.what} | {held} | {outcome.facts} | {outcome.seconds:.0f} s |"


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


def _run(arguments: argparse.Namespace, directory: Path) -> list[Outcome]:
    plan = Plan(quick=arguments.quick, seed=arguments.seed, directory=directory)
    wanted = [fault for fault in FAULTS if not arguments.only or fault.name in arguments.only]
    found: list[Outcome] = []
    for outcome in outcomes(wanted, plan):
        if not arguments.keep:
            shutil.rmtree(directory / outcome.name, ignore_errors=True)
        if not arguments.markdown:
            print(plain(outcome), flush=True)
        found.append(outcome)
    return sorted(found, key=lambda outcome: [fault.name for fault in FAULTS].index(outcome.name))


def main() -> int:
    arguments = _arguments()
    # So that what was started is stopped and what was written removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.perf_counter()
    directory: Path = arguments.keep or Path(tempfile.mkdtemp(prefix="huskies-faults-"))
    try:
        found = _run(arguments, directory)
    finally:
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if arguments.markdown:
        print(
            "| # | fault | its invariant | what was done and found | took |\n| --- | --- | --- | --- | --- |"
        )
        print("\n".join(markdown(outcome) for outcome in found))
        for outcome in found:
            print(outcome.problem, file=sys.stderr)
    used = sum(outcome.processor_seconds for outcome in found)
    print(f"\n{len(found)} faults in {time.perf_counter() - started:.0f} s, {used:.0f} s of a processor")
    failed = [outcome.name for outcome in found if outcome.problem]
    if failed:
        repeat = " ".join(f"--only {name}" for name in failed)
        quick = "--quick " if arguments.quick else ""
        print(f"\nfailed; again with: python -m faults {quick}--seed {arguments.seed} {repeat}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
