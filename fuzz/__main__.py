"""`python -m fuzz`: inputs by the million; says for each target how many, how long, and what came of it."""

from __future__ import annotations

import argparse
import base64
import logging
import sys

from fuzz.runner import Report, run
from fuzz.targets import TARGETS


def line(report: Report) -> str:
    """For a person who waits for it."""
    share = 100 * report.taken / max(1, report.inputs)
    found = "FAILED" if report.problem else "ok"
    return (
        f"{report.name:<20} {report.inputs:>9,} inputs {report.seconds:>6.1f} s  {share:>5.1f} % taken  "
        f"{len(report.labels):>3} outcomes  {found}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Make up what comes from outside.")
    names = [target.name for target in TARGETS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"only this: {', '.join(names)}"
    )
    parser.add_argument("--seed", type=int, default=7, help="draws other inputs")
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs of a whole run")
    parser.add_argument("--replay", metavar="BASE64", help="this input alone, with --only NAME")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; 1 where anything was found."""
    arguments = _arguments()
    wanted = [target for target in TARGETS if not arguments.only or target.name in arguments.only]
    if arguments.replay is not None:
        for target in wanted:
            with target.opened() as check:
                print(check(base64.b64decode(arguments.replay)))
        return 0
    # What is said of damage and the like is none of what is looked for here.
    logging.getLogger().addHandler(logging.NullHandler())
    reports: list[Report] = []
    for target in wanted:
        report = run(target, max(1, int(target.inputs * arguments.share)), arguments.seed)
        print(line(report), flush=True)
        if report.problem:
            print(report.problem, flush=True)
        reports.append(report)
    failed = sum(bool(report.problem) for report in reports)
    inputs, seconds = sum(report.inputs for report in reports), sum(report.seconds for report in reports)
    taken = 100 * sum(report.taken for report in reports) / max(1, inputs)
    print(
        f"total: {len(reports)} targets, {inputs:,} inputs in {seconds:.0f} s of a processor, "
        f"{taken:.0f} % taken, {failed} failed (seed {arguments.seed})"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
