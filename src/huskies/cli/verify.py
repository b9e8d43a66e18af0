"""`huskies verify`: walks a gateway's log and says whether it is sound, and the same as other gateways'."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huskies.cli.options import data_dir_option, examples, setting
from huskies.errors import EXIT_FAILURE, EXIT_USAGE

if TYPE_CHECKING:
    from huskies.gateway.store.verify import LogCheck, Problem, Verdict

_Progress = Callable[[int], None]


def _against(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> list[str]:
    from huskies.urls import gateway_base_url

    urls = [gateway_base_url(url, "--against") for url in value]
    return ["http" + url.removeprefix("ws") if url.startswith("ws") else url for url in urls]


@click.command(
    "verify",
    short_help="Check a gateway's log.",
    epilog=examples(
        "huskies verify",
        "huskies verify --data-dir /srv/huskies --json",
        "huskies verify --against http://other-gateway:3000",
    ),
)
@data_dir_option
@setting(
    "--against",
    multiple=True,
    metavar="URL",
    callback=_against,
    help="A running gateway whose events to compare with; may be repeated.",
)
@setting("--json", "as_json", is_flag=True, help="Print what is found as one JSON object a line.")
def command(data_dir: Path, against: list[str], as_json: bool) -> int:
    """Walk the whole log and check every block, sequence and digest; also beside a running gateway.

    Nothing is changed. Exit status: 0 the log is sound, 1 it is damaged or differs, 2 it cannot be read.
    """
    from huskies.cli.report import Report
    from huskies.errors import HuskiesError

    report = Report(as_json=as_json)
    with opened(data_dir) as (connection, path):
        from huskies.gateway.store.verify import LogCheck

        check = LogCheck(connection)
        started = time.perf_counter()
        for problem in _walked(check, path):
            report.problem(problem)
        report.verdict(path, check.verdict, time.perf_counter() - started)
        sound = not check.verdict.problems
        for url in against:
            from huskies.cli.compare import Comparison
            from huskies.cli.progress import busy

            try:
                with busy(f"comparing with {url}"):
                    sound &= report.differences(url, Comparison(connection, check.rows, url))
            except HuskiesError as error:
                report.failure(str(error))
                return EXIT_USAGE
    return 0 if sound else EXIT_FAILURE


@contextmanager
def opened(data_dir: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A connection that reads the log in a directory; raises `ConfigError` where it cannot be read."""
    from huskies.errors import ConfigError
    from huskies.gateway.store.log_store import FILE_NAME, VERSION
    from huskies.storage.sqlite import open_reader

    path = data_dir / FILE_NAME
    if not path.is_file():
        raise ConfigError(str(path), "expected a gateway's log; name its directory with --data-dir")
    connection: sqlite3.Connection | None = None
    try:
        connection = open_reader(path)
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise ConfigError(
                str(path),
                f"written by a newer Huskies (format {found}, this one reads {VERSION}); upgrade this one",
            )
        yield connection, path
    except sqlite3.Error as error:
        raise ConfigError(
            str(path), f"the log cannot be read: {error}; restore a backup with `huskies restore`"
        ) from None
    finally:
        if connection is not None:
            connection.close()


def _walked(check: LogCheck, path: Path) -> Iterator[Problem]:
    with progress_bar(check, f"checking {path}") as told:
        yield from check.run(told)


@contextmanager
def progress_bar(check: LogCheck, title: str) -> Iterator[_Progress]:
    """What tells a terminal how far the walk is; nothing where there is none."""
    from huskies.cli.progress import bars

    with bars() as progress:
        if progress is None:
            yield lambda _: None
            return
        task = progress.add_task(title, total=None)

        def told(position: int) -> None:
            verdict: Verdict = check.verdict
            first = verdict.first_position
            progress.update(task, total=verdict.last_position + 1 - first, completed=position + 1 - first)

        yield told
