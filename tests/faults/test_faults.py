"""Each fault in its quick form; `make faults` runs the whole one. What was done is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.catalogue import FAULTS, Fault
from faults.setting import QUICK, Setting

SEED = 7


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_was_acknowledged_survives(fault: Fault, tmp_path: Path) -> None:
    setting = Setting(QUICK, SEED, tmp_path / "run")
    try:
        fault.run(setting)
    finally:
        print(f"{fault.number} {fault.name}: seed {SEED}, {setting.report}")  # noqa: T201 - a fault says what it did
