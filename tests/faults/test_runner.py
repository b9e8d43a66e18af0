"""What runs beside what: never more than two processors, and nothing beside what measures time."""

from __future__ import annotations

from faults.catalogue import FAULTS, Fault
from faults.runner import startable


def _order(faults: list[Fault]) -> list[set[str]]:
    """Which run at once, where each ends before the next may start and the first started ends first."""
    left, running, seen = list(faults), list[Fault](), list[set[str]]()
    while left or running:
        for fault in startable(running, left):
            left.remove(fault)
            running.append(fault)
        seen.append({fault.name for fault in running})
        running.pop(0)
    return seen


def test_every_fault_runs_and_those_that_measure_time_run_alone() -> None:
    seen = _order(list(FAULTS))
    assert set().union(*seen) == {fault.name for fault in FAULTS}
    processors = {fault.name: fault.processors for fault in FAULTS}
    for together in seen:
        assert len(together) == 1 or sum(processors[name] for name in together) <= 2
    assert {"storm"} in seen
    assert {"slow-reader"} in seen
