"""Carries faults out, each in a process of its own: beside each other, as far as two processors allow."""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from faults.catalogue import FAULTS, Fault
from faults.setting import QUICK, WHOLE, Setting

_PROCESSORS = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is common to all faults of one run."""

    quick: bool
    seed: int
    directory: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one fault; `problem` is empty where its invariant held."""

    name: str
    seconds: float
    processor_seconds: float
    facts: str
    problem: str

    @property
    def fault(self) -> Fault:
        return next(fault for fault in FAULTS if fault.name == self.name)


def outcomes(faults: Sequence[Fault], plan: Plan) -> Iterator[Outcome]:
    """Each as soon as it is there. Whoever stops asking ends what still runs."""
    context = multiprocessing.get_context("spawn")
    left = sorted(faults, key=lambda fault: -fault.seconds)
    running: dict[Connection, tuple[Fault, SpawnProcess]] = {}
    try:
        while left or running:
            for fault in startable([fault for fault, _ in running.values()], left):
                left.remove(fault)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_carry_out, args=(fault.name, plan, theirs))
                process.start()
                theirs.close()
                running[ours] = (fault, process)
                print(f"{fault.number} {fault.name} …", file=sys.stderr, flush=True)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                fault, process = running.pop(connection)
                yield _outcome_of(fault, process, connection)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def startable(running: Sequence[Fault], left: Sequence[Fault]) -> list[Fault]:
    """What may start beside these, in the order given: no more than there are processors for."""
    found: list[Fault] = []
    for fault in left:
        beside = [*running, *found]
        if not beside or fault.processors + sum(one.processors for one in beside) <= _PROCESSORS:
            found.append(fault)
    return found


def _outcome_of(fault: Fault, process: SpawnProcess, connection: Connection) -> Outcome:
    try:
        outcome: Outcome = connection.recv()
    except EOFError:
        process.join()
        outcome = Outcome(fault.name, 0, 0, "", f"its process ended with {process.exitcode}")
    connection.close()
    process.join()
    return outcome


def _carry_out(name: str, plan: Plan, told: Connection) -> None:
    # So that what was started is stopped and what was written removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    fault = next(fault for fault in FAULTS if fault.name == name)
    directory = plan.directory / fault.name
    setting = Setting(QUICK if plan.quick else WHOLE, plan.seed, directory)
    setting.report.note("seed", str(plan.seed))
    started = time.perf_counter()
    problem = ""
    try:
        fault.run(setting)
    except Exception as error:  # noqa: BLE001 - the others are still worth a run
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        problem = f"{type(error).__name__}: {error}{notes}"
    seconds = time.perf_counter() - started
    told.send(Outcome(name, seconds, _processor_seconds(), str(setting.report), problem))


def _processor_seconds() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
