"""Simulated fleets keep every promise, a seed gives the same again, and planted bugs are found."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from huskies.events.model import StatusEvent
from huskies.gateway.store.appender import Appender
from huskies.gateway.store.appends import Append
from huskies.protocol.contiguity import Split
from huskies.sled.broadcast import Receipt
from huskies.sled.outbox import Outbox
from huskies.sled.outbox_store import OutboxStore
from huskies.testing import Report, run, run_seed
from huskies.testing.__main__ import main

SEEDS = range(20)
HOURS = 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_simulated_fleet_keeps_every_promise(seed: int) -> None:
    outcome = run_seed(seed, HOURS)
    assert not outcome.violations, f"python -m huskies.testing --seed {seed} --hours {HOURS} --trace"
    assert outcome.events["found"] > 0


def test_the_same_seed_gives_the_same_simulation() -> None:
    traces: list[list[str]] = [[], []]
    outcomes = [run_seed(7, HOURS, trace.append) for trace in traces]
    assert traces[0] == traces[1]
    assert outcomes[0].trace_hash == outcomes[1].trace_hash == run_seed(7, HOURS).trace_hash
    assert run_seed(8, HOURS).trace_hash != outcomes[0].trace_hash


def test_also_in_other_processes_whatever_their_hashes_are() -> None:
    def trace(hash_seed: str) -> str:
        command = [sys.executable, "-m", "huskies.testing", "--seed", "7", "--hours", "0.5"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.splitlines()[0]

    assert trace("1") == trace("2") == f"trace {run_seed(7, HOURS).trace_hash}"


def test_hours_are_made_of_seeds() -> None:
    report = run(iter(range(100)), hours=0.2, hours_each=0.1)
    assert (report.seeds, report.hours) == (2, 0.2)
    assert report.lines()[0].startswith("2 seeds, 0.2 simulated hours")


def test_the_command_says_how_to_see_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_on_restart(monkeypatch)
    found = first_failure(range(6, 26))
    seed = found.failed[0].seed
    assert main(["--seed", str(seed), "--hours", "1", "--trace"]) == 1
    shown = capsys.readouterr().out
    assert f"python -m huskies.testing --seed {seed} --hours 1 --trace" in shown
    assert "VIOLATION" in shown


# --- planted bugs ------------------------------------------------------------------------------------


def first_failure(seeds: Sequence[int]) -> Report:
    report = Report()
    for seed in seeds:
        report.add(run_seed(seed, 1.0))
        if report.failed:
            return report
    raise AssertionError(f"nothing was found in {len(seeds)} seeds")


def forget_on_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outbox that is opened has lost what no gateway had acknowledged."""
    opened = OutboxStore.__init__

    def open_(store: OutboxStore, *args: Any) -> None:
        opened(store, *args)
        if store.is_new:
            return
        with store.transaction():
            head = store.head
            store._connection.execute("DELETE FROM events WHERE position > ?", (head.base + head.acked,))
            store._update(last_seq=head.acked)

    monkeypatch.setattr(OutboxStore, "__init__", open_)


def test_an_outbox_that_forgets_when_it_restarts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_on_restart(monkeypatch)
    report = first_failure(range(6, 26))
    assert any("are lost" in violation for violation in report.failed[0].violations)


def test_a_receipt_before_the_commit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Outbox.publish
    publishing: list[asyncio.Task[Receipt]] = []

    async def publish_and_not_wait(outbox: Outbox, event: StatusEvent) -> Receipt:
        publishing.append(asyncio.get_running_loop().create_task(publish(outbox, event)))
        return Receipt(sled_id=outbox.head.sled_id, epoch=outbox.head.epoch, seq=None)

    monkeypatch.setattr(Outbox, "publish", publish_and_not_wait)
    report = first_failure(range(6, 26))
    assert any("are lost" in violation for violation in report.failed[0].violations)
    with warnings.catch_warnings():
        # These outlived their processes, with what those had not closed when they were killed.
        warnings.simplefilter("ignore", ResourceWarning)
        publishing.clear()
        gc.collect()


def test_a_log_that_does_not_compare_what_it_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(appender: Appender, stream: Any, job: Append, split: Split) -> Any:
        del appender, job
        return stream, split

    monkeypatch.setattr(Appender, "_compare", compare)
    first_failure(range(3, 23))


def append_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log appends what it holds already."""
    monkeypatch.setattr("huskies.gateway.store.appender.judge", lambda *_: Split(0))


def test_a_log_that_appends_what_it_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    append_again(monkeypatch)
    first_failure(range(3, 23))
