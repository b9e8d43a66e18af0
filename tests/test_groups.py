"""Tests that must not run beside each other share a worker, with what is locked here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_TESTS = """
import pytest
from tests.support.groups import INTERFACES

@INTERFACES
@pytest.mark.parametrize("number", range(6))
def test_one(number):
    pass
"""


def test_a_group_is_run_by_one_worker(tmp_path: Path) -> None:
    tests = tmp_path / "test_grouped.py"
    tests.write_text(_TESTS)
    words = ("-n", "2", "--dist", "loadgroup", "-v", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words, tests], cwd=root, capture_output=True, text=True, check=True
    )
    workers = re.findall(r"\[(gw\d)\].* PASSED", ran.stdout)
    assert len(workers) == 6
    assert len(set(workers)) == 1
