"""Each fault in its quick form; `make faults` runs the whole one. What was done is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.catalogue import FAULTS, Fault
from faults.setting import QUICK, Setting

from tests.chat.conftest import IN_MATRIX

SEED = 7


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=[IN_MATRIX] if fault.name == "chat" else [])
        for fault in FAULTS
    ],
)
def test_what_was_acknowledged_survives(fault: Fault, tmp_path: Path) -> None:
    setting = Setting(QUICK, SEED, tmp_path / "run")
    try:
        fault.run(setting)
    finally:
        print(f"{fault.number} {fault.name}: seed {SEED}, {setting.report}")  # noqa: T201 - a fault says what it did
