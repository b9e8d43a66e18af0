"""What `huskies verify` and `huskies restore` say of a log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from huskies.cli.compare import Difference
from huskies.gateway.store.verify import Problem, Verdict
from huskies.logs import printable, printable_json


class Report:
    """Prints lines for people, or JSON objects, on stdout."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def problem(self, problem: Problem) -> None:
        """Print one thing that is wrong."""
        if self._as_json:
            self._json("problem", problem)
            return
        last = problem.last_position
        place = f"position {problem.position}" + (f" to {last}" if last else "")
        about = f" ({_sequence(problem.project, problem.sled_id, problem.epoch)})" if problem.sled_id else ""
        click.echo(printable(f"{place}: {problem.problem}{about}"))
        for missing in problem.missing:
            click.echo(
                f"  missing: seq {missing.first_seq} to {missing.last_seq} of "
                f"{_sequence(None, missing.sled_id, missing.epoch)}"
            )

    def verdict(self, path: Path, verdict: Verdict, seconds: float) -> None:
        """Print what was looked at and what it amounts to."""
        if self._as_json:
            self._json("verdict", verdict, sound=not verdict.problems, seconds=round(seconds, 3))
            return
        found = f"{verdict.problems} problems" if verdict.problems != 1 else "1 problem"
        click.echo(
            f"{'DAMAGED, ' + found if verdict.problems else 'sound'}: {printable(str(path))}: "
            f"{verdict.blocks:,} blocks, {verdict.events:,} events (positions {verdict.first_position:,} to "
            f"{verdict.last_position:,}), {verdict.streams:,} streams, {verdict.bytes:,} bytes "
            f"in {seconds:.1f} s"
        )

    def differences(self, url: str, differences: Iterable[Difference]) -> bool:
        """Print how another gateway's log differs; whether it does not."""
        same = True
        for difference in differences:
            same = same and not difference.is_problem
            if self._as_json:
                self._json("difference", difference, url=url)
            else:
                where = _sequence(difference.project, difference.sled_id, difference.epoch)
                click.echo(printable(f"{url}: {where}: {difference.said}"))
        if self._as_json:
            self._json("comparison", {"url": url, "same": same})
        else:
            click.echo(printable(f"{url}: {'nothing differs' if same else 'DIFFERS'}"))
        return same

    def failure(self, text: str) -> None:
        """Print why a comparison could not be made."""
        click.echo(f"huskies: {printable(text)}", err=True)

    def _json(self, kind: str, values: object, **more: object) -> None:
        fields = {"kind": kind, **msgspec.to_builtins(values), **more}
        click.echo(printable_json(msgspec.json.encode(fields)))


def _sequence(project: str | None, sled_id: str | None, epoch: str | None) -> str:
    return f"{project or 'sled'} {(sled_id or '')[:12]}, epoch {epoch}"
