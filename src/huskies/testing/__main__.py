"""Runs simulations from the command line; see `python -m huskies.testing --help`."""

from __future__ import annotations

import argparse
import itertools
import sys

from huskies.testing.simulation import HOURS_EACH, Outcome, Report, run, run_seed


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; 1 where something was found."""
    asked = _parser().parse_args(arguments)
    if asked.seed is None:
        hours = 10 * HOURS_EACH if asked.hours is None else asked.hours
        report = run(itertools.count(asked.first_seed), hours, jobs=asked.jobs, tell=_tell)
    else:
        trace = _say if asked.trace else None
        outcome = run_seed(asked.seed, HOURS_EACH if asked.hours is None else asked.hours, trace)
        _say(f"trace {outcome.trace_hash}")
        report = Report()
        report.add(outcome)
    for line in report.lines():
        _say(line)
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m huskies.testing", description="Simulates fleets.")
    parser.add_argument("--seed", type=int, help="run this seed alone, and print its trace's hash")
    parser.add_argument(
        "--hours", type=float, help=f"simulated hours: of the seed ({HOURS_EACH:g}), or of all seeds together"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="without --seed: where to begin (0)")
    parser.add_argument("--jobs", type=int, default=1, help="without --seed: how many processes (1)")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    return parser


def _tell(outcome: Outcome) -> None:
    for violation in outcome.violations:
        _say(f"seed {outcome.seed}: {violation}")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
